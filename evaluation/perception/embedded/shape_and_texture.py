"""What a region looks like, measured on its pixels: outline and surface in one word each.

Shape (:data:`SHAPES`), of the mask with its holes filled, the first that fits: ``wide`` or ``tall`` where one side of
its box is at least :data:`LONG` times the other; ``square`` where it fills :data:`SQUARE_FILL` of its box; ``round``
where its overlap (IoU) with the ellipse inscribed in the box is at least :data:`ROUND_IOU`; else ``irregular``.

Texture (:data:`TEXTURES`), of the brightness (0..255) inside, two pixels from the outline where there are such:
``smooth`` where the mean step between neighbouring pixels is below :data:`SMOOTH_STEP`; ``striped`` where steps
point one way (coherence of the structure tensor, in [0, 1], at least :data:`STRIPED_COHERENCE`); ``spotted`` where
the rarer of dark and bright lies in :data:`SPOTS` or more pieces; else ``detailed``.

The words are measurements of small pictures, not judgements of what a thing is: a dog's head is "round".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

SHAPES = ("round", "square", "tall", "wide", "irregular")
TEXTURES = ("smooth", "striped", "spotted", "detailed")
LONG = 1.6
SQUARE_FILL = 0.92
ROUND_IOU = 0.88
SMOOTH_STEP = 8.0
STRIPED_COHERENCE = 0.6
SPOTS = 4
_MIN_INNER_PX = 16


def shape_word(mask: Bool[np.ndarray, "h w"]) -> str:
    """Outline of a mask in one of :data:`SHAPES`; "irregular" for an empty one."""
    from scipy import ndimage

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return "irregular"
    cut = ndimage.binary_fill_holes(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    height, width = cut.shape
    if max(height, width) >= LONG * min(height, width):
        return "wide" if width > height else "tall"
    if cut.mean() >= SQUARE_FILL:
        return "square"
    y, x = (np.arange(side) * 2 + 1 - side for side in (height, width))
    ellipse = (y[:, None] / height) ** 2 + (x[None] / width) ** 2 <= 1
    return "round" if (cut & ellipse).sum() >= ROUND_IOU * (cut | ellipse).sum() else "irregular"


def texture_word(image_hwc: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> str:
    """Surface of the masked pixels in one of :data:`TEXTURES`; "smooth" where there are too few to tell."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return "smooth"
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inner = _inner(mask[box])
    brightness = image_hwc[box].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    if inner.sum() < _MIN_INNER_PX:
        return "smooth"
    down, right = (np.diff(brightness, axis=0)[:, :-1], np.diff(brightness, axis=1)[:-1])
    steps = inner[:-1, :-1]
    down, right = down[steps], right[steps]
    if len(down) < _MIN_INNER_PX or np.hypot(down, right).mean() < SMOOTH_STEP:
        return "smooth"
    if _coherence(down, right) >= STRIPED_COHERENCE:
        return "striped"
    return "spotted" if _count_spots(brightness, inner) >= SPOTS else "detailed"


def _inner(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask without a rim of two pixels, where it blends with what is behind it; the mask itself if it is thin."""
    from scipy import ndimage

    inner = np.asarray(ndimage.binary_erosion(mask, iterations=2))
    return inner if inner.sum() >= _MIN_INNER_PX else mask


def _coherence(down: Float[np.ndarray, " n"], right: Float[np.ndarray, " n"]) -> float:
    """How far steps agree in direction: (l1 - l2) / (l1 + l2) of the structure tensor's eigenvalues, in [0, 1]."""
    yy, xx, xy = float(down @ down), float(right @ right), float(down @ right)
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy)) if xx + yy > 0 else 0.0


def _count_spots(brightness: Float[np.ndarray, "h w"], inner: Bool[np.ndarray, "h w"]) -> int:
    """Pieces, of 2 pixels or more, of the rarer of dark and bright (parted halfway between the extremes)."""
    from scipy import ndimage

    values = brightness[inner]
    bright = (brightness > (values.min() + values.max()) / 2) & inner
    rarer = bright if 2 * bright.sum() <= inner.sum() else inner & ~bright
    labels, count = ndimage.label(rarer)
    return int((np.bincount(labels.ravel(), minlength=count + 1)[1:] >= 2).sum())
