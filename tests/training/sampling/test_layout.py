"""Guidance from a null layout, strength and window of a sampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.layout.tiny import base, placed, randomised, with_layout
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.model_folders.denoiser import Denoiser
from training.sampling import layout as sampling
from training.sampling.control import Control
from training.sampling.denoising_loop import Guided, sample_latents


@pytest.fixture(scope="module")
def model() -> Any:
    return randomised(with_layout(base(), "siam", box_aligned=True))


def prompts() -> Condition:
    torch.manual_seed(4)
    null = Condition(torch.randn(1, 5, 12), torch.ones(1, 5), torch.randn(1, 10))
    return Condition(torch.randn(2, 5, 12), torch.ones(2, 5), torch.randn(2, 10)).with_null(null)


def drawn(model: Any, condition: Condition, guidance: float = 2.0, control: Control | None = None) -> Tensor:
    denoiser = Denoiser(model, None, Noising("flow"))
    with torch.no_grad():
        return sample_latents(denoiser, condition, [1, 2], 10, guidance, control=control)


def test_at_strength_0_and_outside_its_window_the_base_draws(model: Any) -> None:
    layout = placed(model)
    alone = drawn(model, prompts())
    off = sampling.with_layout(prompts(), layout, 0.0)
    assert torch.equal(drawn(model, off), alone)
    on = sampling.with_layout(prompts(), layout)
    assert torch.equal(drawn(model, on, control=sampling.layout_window(0.0)), alone)
    assert torch.equal(drawn(model, on, control=sampling.layout_window(1.0)), drawn(model, on))
    assert not torch.allclose(drawn(model, on), alone, atol=1e-3)
    assert not torch.allclose(
        drawn(model, on, control=sampling.layout_window(0.5)), drawn(model, on), atol=1e-3
    )


@pytest.mark.parametrize(("share", "steps"), [(0.3, 3), (0.35, 3), (0.99, 9), (1.0, 10)])
def test_the_branch_is_computed_in_its_window_alone(model: Any, share: float, steps: int) -> None:
    calls = []
    handle = model.layout_tokens.register_forward_hook(lambda *_: calls.append(1))
    drawn(model, sampling.with_layout(prompts(), placed(model)), control=sampling.layout_window(share))
    handle.remove()
    assert len(calls) == steps


def test_guidance_extrapolates_from_no_text_and_no_layout(model: Any) -> None:
    layout, given = placed(model), prompts()
    assert given.null is not None
    assert given.null.pooled is not None
    noisy, level = torch.randn(2, 4, 8, 8), torch.tensor([500.0, 500.0])
    told = sampling.with_layout(given, layout)

    with torch.no_grad():
        found = Guided(model, told, 3.0)(noisy, level[:1], 0, 10)
        nothing = replace(layout.left_out(), phrases=torch.zeros_like(layout.phrases))
        empty = {
            "encoder_hidden_states": given.null.states.expand(2, -1, -1),
            "pooled_projections": given.null.pooled.expand(2, -1),
        }
        without = model(noisy, timestep=level, layout=nothing, return_dict=False, **empty)[0]
        with_both = model(
            noisy, encoder_hidden_states=given.states, pooled_projections=given.pooled, timestep=level, layout=layout,
            return_dict=False,
        )[0]  # fmt: skip
    torch.testing.assert_close(found, without + 3.0 * (with_both - without), atol=1e-5, rtol=1e-5)


def test_settings_out_of_range_are_told(model: Any) -> None:
    layout = placed(model)
    with pytest.raises(FoundryError, match="strength is -1"):
        sampling.with_layout(prompts(), layout, -1.0)
    with pytest.raises(FoundryError, match="2 prompts but 1 layouts"):
        sampling.with_layout(prompts(), layout.each(lambda rows: rows[:1]))
    with pytest.raises(FoundryError, match=r"window is 1\.5"):
        sampling.layout_window(1.5)
