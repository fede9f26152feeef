"""The registry: sizes, counts against slow references, and the noise-free behaviour of masks and seeds."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from training.backbones import (
    BACKBONES,
    build_backbone,
    count_parameters,
    denoise,
    family_of,
    macs_per_image,
)
from training.conditioning import Condition
from training.errors import FoundryError


@pytest.mark.parametrize("name", ["PixArt-tiny", "UNet-tiny"])
def test_counts_equal_the_built_model(name: str) -> None:
    model = build_backbone(name)
    assert count_parameters(name) == sum(parameter.numel() for parameter in model.parameters())
    condition = Condition(torch.randn(1, 32, 384), torch.ones(1, 32))
    inputs = torch.randn(1, 16, 8, 8), torch.zeros(1), condition
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoise(model, *inputs)
    counts = counter.get_flop_counts()["Global"]
    attention = sum(value for operation, value in counts.items() if "attention" in str(operation))
    assert macs_per_image(name, 32) == (counter.get_total_flops() - attention) // 2


def test_demo_transformers_span_twenty_times() -> None:
    sizes = sorted(count_parameters(name) for name in BACKBONES if name.startswith("PixArt-demo"))
    assert len(sizes) >= 7
    assert sizes[-1] >= 20 * sizes[0]
    unets = [count_parameters(name) for name in BACKBONES if name.startswith("UNet-demo")]
    assert len(unets) >= 7
    assert sizes[0] < min(unets) < max(unets) < 10 * sizes[-1]


def test_seed_fixes_the_initial_weights_and_leaves_torch_alone() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (build_backbone("PixArt-tiny", seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [model.proj_out.weight for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_padding_does_not_matter_where_a_mask_is_passed() -> None:
    model = build_backbone("PixArt-tiny", 0).eval()
    assert family_of(model).takes_mask
    torch.manual_seed(0)
    noisy, states = torch.randn(1, 16, 8, 8), torch.randn(1, 5, 384)
    padded = torch.cat([states, torch.randn(1, 4, 384)], 1)
    mask = torch.arange(9)[None] < 5
    with torch.no_grad():
        short = denoise(model, noisy, torch.tensor([500.0]), Condition(states, mask[:, :5]))
        long = denoise(model, noisy, torch.tensor([500.0]), Condition(padded, mask))
    torch.testing.assert_close(short, long)


def test_unknown_name() -> None:
    with pytest.raises(FoundryError, match="did you mean 'PixArt-demo-h96-d5'"):
        build_backbone("PixArt-demo-h64-d5x")
