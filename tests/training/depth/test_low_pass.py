"""The filter against a sum over frequencies, on pictures that are not square, and only where no instance is."""

from __future__ import annotations

import cmath
import math
from itertools import product

import pytest
import torch
from torch import Tensor

from training.depth.low_pass import LowPass, filter_residuals
from training.errors import FoundryError


def slowly(residual: Tensor, low_pass: LowPass) -> Tensor:
    """Every frequency by its definition: kept where both of its wave numbers are small."""
    height, width = residual.shape
    half = math.ceil(height * low_pass.kept), math.ceil(width * low_pass.kept)
    out = torch.zeros(height, width, dtype=torch.complex64)
    for v, u in product(
        range(-(height // 2), height - height // 2), range(-(width // 2), width - width // 2)
    ):
        wave = torch.tensor(
            [
                [cmath.exp(2j * math.pi * (v * y / height + u * x / width)) for x in range(width)]
                for y in range(height)
            ]
        )
        share = (residual * wave.conj()).sum() / (height * width)
        kept = -half[0] <= v < half[0] and -half[1] <= u < half[1]
        out += share * wave * (1.0 if kept else low_pass.damping)
    return out.real


@pytest.mark.parametrize("shape", [(8, 8), (6, 10), (10, 6), (7, 5)])
def test_the_filter_is_the_sum_over_frequencies(shape: tuple[int, int]) -> None:
    residual = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    low_pass = LowPass(kept=0.2, damping=0.3)
    torch.testing.assert_close(low_pass.filtered(residual[None, None])[0, 0], slowly(residual, low_pass))


def test_rows_are_cut_by_the_height_and_columns_by_the_width() -> None:
    window = LowPass().window(64, 16)
    assert int(window.any(dim=1).sum()) == 16  # 2 x 64 / 8
    assert int(window.any(dim=0).sum()) == 4


def test_what_is_flat_stays_and_a_filter_that_damps_nothing_is_the_identity() -> None:
    flat = torch.full((1, 2, 8, 8), 3.0)
    torch.testing.assert_close(LowPass().filtered(flat), flat)
    residual = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(LowPass(damping=1.0).filtered(residual), residual)


def test_instances_keep_their_detail_and_wide_residuals_are_left_alone() -> None:
    instances = torch.zeros(1, 512, 512, dtype=torch.bool)
    instances[:, :256, :256] = True
    down = [torch.randn(1, 2, side, side) for side in (128, 64, 32)]
    mid = torch.randn(1, 2, 8, 8)
    (wide, *others), middle = filter_residuals(down, mid, instances, (512, 512), LowPass())
    assert wide is down[0]
    for before, after in zip([*down[1:], mid], [*others, middle], strict=True):
        half = before.shape[-1] // 2
        assert torch.equal(after[..., :half, :half], before[..., :half, :half])
        assert not torch.allclose(after[..., half:, half:], before[..., half:, half:])


def test_a_small_instance_is_not_lost_on_a_coarse_grid() -> None:
    instances = torch.zeros(1, 64, 64, dtype=torch.bool)
    instances[:, 10, 10] = True
    residual = torch.randn(1, 1, 8, 8)
    kept = LowPass().outside(residual, instances)
    assert kept[0, 0, 1, 1] == residual[0, 0, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "told"), [({"kept": 0.0}, "'kept' is 0"), ({"damping": 2.0}, "'damping' is 2")]
)
def test_impossible_settings_are_told(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(FoundryError, match=told):
        LowPass(**wrong)
