"""A drawing at a size of scenes: its pixels, which of them blend with what is behind, and the rim around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int16, UInt8

MARGIN_PX = 2
"""How far the rim lies outside a drawing: what is nearer is blended with it."""
_ALIKE_RGB = 48  # largest channel difference (0..255) at which a pixel is the drawing's
_OPAQUE, _SOLID = 128, 224  # alpha from which a pixel is the drawing's, and its alone
_MIN_VARIED = 0.2  # share of pixels off the middle colour from which a drawing is not plain


@dataclass(frozen=True)
class SizedDrawing:
    """A drawing at a size, cut to its opaque pixels: places (row, column) and colours of these and of the rim outside.

    ``solid`` marks the pixels that blend with nothing behind them, ``rgb`` are colours in 0 .. 255; ``rim_rgb`` is the
    colour of the drawing's pixel nearest to each pixel of the rim. ``plain_rgb`` is the one colour of a plain drawing.
    """

    height: int
    width: int
    places: Int[np.ndarray, "p 2"]
    rgb: Int16[np.ndarray, "p 3"]
    solid: Bool[np.ndarray, " p"]
    rim_places: Int[np.ndarray, "r 2"]
    rim_rgb: Int16[np.ndarray, "r 3"]
    plain_rgb: Int16[np.ndarray, " 3"] | None


def size_drawing(picture: UInt8[np.ndarray, "s s 4"], side_px: int) -> SizedDrawing:
    """A drawing at ``side_px`` pixels, cut to what is opaque there."""
    from PIL import Image
    from scipy import ndimage

    small = np.asarray(Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.LANCZOS))
    opaque = small[..., 3] >= _OPAQUE
    ys, xs = np.nonzero(opaque)
    corner = np.array([ys.min(), xs.min()])
    padded = np.pad(opaque, MARGIN_PX)
    square = np.ones((3, 3), dtype=bool)
    soft = ndimage.binary_dilation(padded, square)  # what lies right beside the drawing is blended with it
    rim_ys, rim_xs = np.nonzero(ndimage.binary_dilation(soft, square) & ~soft)
    nearest = ndimage.distance_transform_edt(~padded, return_distances=False, return_indices=True)
    colors = small[..., :3].astype(np.int16)
    near_ys, near_xs = (index[rim_ys, rim_xs] - MARGIN_PX for index in nearest)
    rgb = colors[ys, xs]
    middle = np.median(rgb, axis=0).astype(np.int16)
    return SizedDrawing(
        height=int(ys.max() - ys.min()) + 1,
        width=int(xs.max() - xs.min()) + 1,
        places=np.stack([ys, xs], axis=1) - corner,
        rgb=rgb,
        solid=small[ys, xs, 3] >= _SOLID,
        rim_places=np.stack([rim_ys, rim_xs], axis=1) - MARGIN_PX - corner,
        rim_rgb=colors[near_ys, near_xs],
        plain_rgb=middle if (~alike(rgb, middle)).mean() < _MIN_VARIED else None,
    )


def alike(first: Int16[np.ndarray, "*n 3"], second: Int16[np.ndarray, "*m 3"]) -> Bool[np.ndarray, "*n"]:
    """Which pixels of two pictures are so near in colour that they may be of one drawing."""
    difference = np.abs(first - second)
    largest = np.maximum(np.maximum(difference[..., 0], difference[..., 1]), difference[..., 2])
    return np.asarray(largest <= _ALIKE_RGB)
