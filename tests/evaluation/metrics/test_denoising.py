"""Denoising error: closed form for a Gaussian, independence of order and batch, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation.intervals import mean_interval
from evaluation.metrics.denoising import (
    denoising_errors,
    evaluation_noise,
    noise_levels,
)
from training.conditioning import Condition
from training.errors import FoundryError

SHAPE = (4, 4, 4)


def _text(count: int) -> Condition:
    return Condition(torch.zeros(count, 3, 5), torch.ones(count, 3, dtype=torch.bool))


def _latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def _ids(count: int) -> list[str]:
    return [f"sample-{i}" for i in range(count)]


def _wiener(x: torch.Tensor, sigma: torch.Tensor, text: Condition) -> torch.Tensor:
    """The best answer for latents from a unit Gaussian: x / (1 + sigma^2)."""
    return x / (1 + sigma[:, None, None, None] ** 2)


def test_best_denoiser_of_a_gaussian_has_the_textbook_error() -> None:
    errors = denoising_errors(_wiener, _ids(600), _latents(600), _text(600))
    sigmas = noise_levels()
    np.testing.assert_allclose(errors.mean(axis=0), sigmas**2 / (1 + sigmas**2), rtol=0.03)
    expected = float(np.mean(sigmas**2 / (1 + sigmas**2)))
    summary = mean_interval(errors.mean(axis=1))  # levels share a sample
    assert summary.count == 600
    assert summary.low < expected < summary.high


def test_doing_nothing_leaves_the_noise() -> None:
    errors = denoising_errors(lambda x, sigma, text: x, _ids(300), _latents(300), _text(300))
    np.testing.assert_allclose(errors.mean(axis=0), noise_levels() ** 2, rtol=0.05)


def test_neither_batch_nor_order_nor_company_matters() -> None:
    latents, ids = _latents(9), _ids(9)
    whole = denoising_errors(_wiener, ids, latents, _text(9))
    small = denoising_errors(_wiener, ids, latents, _text(9), batch_size=2)
    back = denoising_errors(_wiener, ids[::-1], latents.flip(0), _text(9))
    alone = denoising_errors(_wiener, ids[4:5], latents[4:5], _text(1))
    np.testing.assert_allclose(small, whole, rtol=1e-5)
    np.testing.assert_allclose(back[::-1], whole, rtol=1e-5)
    np.testing.assert_allclose(alone[0], whole[4], rtol=1e-5)


def test_noise_differs_between_samples_levels_and_seeds() -> None:
    first = evaluation_noise(["a", "b"], 2, SHAPE)
    other = evaluation_noise(["a"], 2, SHAPE, seed=1)
    flat = [*first.flatten(2).flatten(0, 1).unbind(0), other[0, 0].flatten()]
    gram = torch.corrcoef(torch.stack(flat))
    assert (gram - torch.eye(5)).abs().max() < 0.6


def test_text_reaches_the_model_in_the_right_rows() -> None:
    states = torch.arange(5.0)[:, None, None].expand(5, 3, 5).contiguous()
    seen: list[float] = []

    def spy(x: torch.Tensor, sigma: torch.Tensor, text: Condition) -> torch.Tensor:
        seen.extend(text.states[:, 0, 0].tolist())
        return x

    text = Condition(states, torch.ones(5, 3, dtype=torch.bool))
    denoising_errors(spy, _ids(5), _latents(5), text, sigmas=np.array([1.0]), batch_size=2)
    assert seen == [0, 1, 2, 3, 4]


def test_bad_input() -> None:
    with pytest.raises(FoundryError, match="3 sample ids, 2 latents"):
        denoising_errors(_wiener, _ids(3), _latents(2), _text(2))
    with pytest.raises(FoundryError, match="not finite"):
        denoising_errors(lambda x, sigma, text: x * np.nan, _ids(2), _latents(2), _text(2))
