"""How much of a picture an edit leaves as it was, text aside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray

from evaluation.box_conventions import Box

MOST_DB = 100.0
"""PSNR of equal pictures, so that means stay finite: an error of a hundred-thousandth of the range."""


def outside(shape: tuple[int, int], boxes: Sequence[Box], margin_px: int = 1) -> Bool[ndarray, "h w"]:
    """Pixels of a picture (height, width) that lie in no box, nor within a margin of one."""
    height, width = shape
    kept: Bool[ndarray, "h w"] = np.ones(shape, bool)
    for x1, y1, x2, y2 in boxes:
        top, bottom = int(np.floor(y1 * height)) - margin_px, int(np.ceil(y2 * height)) + margin_px
        left, right = int(np.floor(x1 * width)) - margin_px, int(np.ceil(x2 * width)) + margin_px
        kept[max(0, top) : bottom, max(0, left) : right] = False
    return kept


def psnr_outside(
    first: UInt8[ndarray, "h w 3"], second: UInt8[ndarray, "h w 3"], where: Bool[ndarray, "h w"]
) -> float:
    """Peak signal-to-noise ratio in dB over chosen pixels, at most :data:`MOST_DB`; nan where there are none.

    In floating point: published scores subtract and square in 8 bits, which wrap around (see :func:`wrapped_psnr`).
    """
    if not where.any():
        return float("nan")
    error = float(((first[where].astype(np.float64) - second[where].astype(np.float64)) ** 2).mean())
    return MOST_DB if error == 0 else min(MOST_DB, float(10 * np.log10(255**2 / error)))


def wrapped_psnr(first: UInt8[ndarray, "h w 3"], second: UInt8[ndarray, "h w 3"]) -> float:
    """PSNR as the published code of arXiv 2502.09935 computes it, for comparison with its tables alone.

    Differences and their squares stay in 8 bits and wrap at 256, so that it never falls below 27.9 dB; equal pictures have
    148.13 dB by a floor of 1e-10 under the error.
    """
    difference = first - second  # uint8 wraps around
    error = float((difference * difference).mean())
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def ssim_outside(
    first: UInt8[ndarray, "h w 3"], second: UInt8[ndarray, "h w 3"], where: Bool[ndarray, "h w"]
) -> float:
    """Structural similarity over chosen pixels: elsewhere both pictures are one, so that text says nothing of its surroundings.

    nan where there are none.
    """
    from evaluation.metrics.paired_models import ssim_map

    if not where.any():
        return float("nan")
    same = np.where(where[..., None], second, first)
    return float(ssim_map(first, same)[where].mean())


def nearer_to_first(
    own: UInt8[ndarray, "h w 3"],
    first: UInt8[ndarray, "h w 3"],
    second: UInt8[ndarray, "h w 3"],
    where: Bool[ndarray, "h w"],
) -> float:
    """Which of two pictures a third one is nearer to over chosen pixels, by squared error: 1 the first, 0 the second.

    One half where they are equally near; nan where there are no pixels.
    """
    if not where.any():
        return float("nan")
    mine = own[where].astype(np.float64)
    errors = [float(((mine - other[where]) ** 2).mean()) for other in (first, second)]
    return 0.5 + 0.5 * float(np.sign(errors[1] - errors[0]))
