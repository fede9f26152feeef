"""The low-pass filter of 3DIS on residuals of a depth ControlNet: outside of all instances only coarse structure is told.

A depth map of a layout is right where instances are and blurred elsewhere; fine detail there is damped, so that the base model
draws a background of its own (3DIS, arXiv 2410.12669, section 3.3; constants as in the public code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from training.errors import FoundryError

PUBLISHED_SIDE, LARGEST_AT_IT = 512, 64
"""Residuals of up to 64 tokens a side are filtered at 512 pixels, and in proportion at other sizes."""


@dataclass(frozen=True)
class LowPass:
    """``kept``: half of the kept window over the side, 1/8 as published. ``damping``: factor of all other frequencies."""

    kept: float = 1 / 8
    damping: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.kept <= 0.5:
            raise FoundryError(f"low pass: 'kept' is {self.kept:g}; give a share of the side in (0, 0.5]")
        if not 0 <= self.damping <= 1:
            raise FoundryError(f"low pass: 'damping' is {self.damping:g}; give a factor in [0, 1]")

    def filtered(self, residual: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """All of a residual, its frequencies outside the window damped."""
        height, width = residual.shape[-2:]
        window = self.window(height, width, residual.device)
        factor = torch.where(window, 1.0, self.damping)
        spectrum = torch.fft.fftshift(torch.fft.fft2(residual.float()), dim=(-2, -1))
        back = torch.fft.ifft2(torch.fft.ifftshift(spectrum * factor, dim=(-2, -1)))
        return back.real.to(residual.dtype)

    def window(self, height: int, width: int, device: torch.device | None = None) -> Bool[Tensor, "h w"]:
        """Which shifted frequencies are kept: rows by the height and columns by the width (the public code exchanges the two)."""
        inside = [
            (torch.arange(side, device=device) >= side // 2 - half)
            & (torch.arange(side, device=device) < side // 2 + half)
            for side, half in ((height, self._half(height)), (width, self._half(width)))
        ]
        return inside[0][:, None] & inside[1][None]

    def _half(self, side: int) -> int:
        return math.ceil(side * self.kept)

    def outside(
        self, residual: Float[Tensor, "b c h w"], instances: Bool[Tensor, "b height width"]
    ) -> Float[Tensor, "b c h w"]:
        """A residual filtered where no instance is. ``instances``: of any size; a place is an instance's where any part of it is."""
        sizes = residual.shape[-2:]
        there = torch.nn.functional.adaptive_max_pool2d(instances[:, None].float(), sizes) > 0
        return torch.where(there, residual, self.filtered(residual))


def filter_residuals(
    down: Sequence[Float[Tensor, "b _ _ _"]],
    mid: Float[Tensor, "b _ _ _"],
    instances: Bool[Tensor, "b height width"],
    size_px: tuple[int, int],
    low_pass: LowPass,
) -> tuple[list[Tensor], Tensor]:
    """What a ControlNet adds to a UNet's skips and middle, filtered outside of instances: the middle, and skips that are at most
    64 x H / 512 wide. ``size_px``: height and width of the picture."""
    widest = LARGEST_AT_IT * size_px[0] / PUBLISHED_SIDE
    kept = [
        low_pass.outside(residual, instances) if residual.shape[-1] <= widest else residual
        for residual in down
    ]
    return kept, low_pass.outside(mid, instances)
