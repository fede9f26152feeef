"""What an edit leaves as it was is measured in floating point and outside of text alone."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.kept_background import MOST_DB, outside, psnr_outside, ssim_outside, wrapped_psnr


def noisy(sigma: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    first = random.integers(90, 165, (64, 64, 3)).astype(np.uint8)
    second = np.clip(first + sigma * random.standard_normal(first.shape), 0, 255).round().astype(np.uint8)
    return first, second


@pytest.mark.parametrize("sigma", [4, 16, 24])
def test_psnr_is_that_of_the_noise_and_the_published_form_is_not(sigma: float) -> None:
    first, second = noisy(sigma)
    everywhere = outside((64, 64), [])
    assert psnr_outside(first, second, everywhere) == pytest.approx(20 * np.log10(255 / sigma), abs=0.15)
    if sigma >= 16:
        assert (
            wrapped_psnr(first, second) > psnr_outside(first, second, everywhere) + 3
        )  # squares wrap at 256


def test_the_published_form_has_its_published_bounds() -> None:
    first, second = noisy(60)
    assert wrapped_psnr(first, first) == pytest.approx(148.13, abs=0.01)
    assert wrapped_psnr(first, second) > 27.8
    assert psnr_outside(first, first, outside((64, 64), [])) == MOST_DB


def test_text_says_nothing_of_its_surroundings() -> None:
    first, _ = noisy(1)
    second = first.copy()
    second[20:40, 10:50] = 255 - second[20:40, 10:50]
    box = (10 / 64, 20 / 64, 50 / 64, 40 / 64)
    where = outside((64, 64), [box])
    assert where.sum() == 64 * 64 - 22 * 42  # a pixel more on every side
    assert psnr_outside(first, second, where) == MOST_DB
    assert ssim_outside(first, second, where) == pytest.approx(1)
    assert ssim_outside(first, second, outside((64, 64), [])) < 0.9
    nothing = outside((64, 64), [(0.0, 0.0, 1.0, 1.0)])
    assert np.isnan(psnr_outside(first, second, nothing))
    assert np.isnan(ssim_outside(first, second, nothing))
