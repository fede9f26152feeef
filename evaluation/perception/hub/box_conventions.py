"""Every model's box convention, converted at the edge to normalised x1, y1, x2, y2 in [0, 1]. Light: no torch."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

PLACES = 1000
"""Florence-2 speaks of places in thousandths of the image's width and height: ``<loc_0>`` to ``<loc_999>``."""

Boxes = Float[np.ndarray, "n 4"]


def from_center_norm(boxes: Boxes) -> Boxes:
    """From normalised centre x, centre y, width, height (Grounding DINO)."""
    center, half = boxes[:, :2], boxes[:, 2:] / 2
    return clip(np.concatenate([center - half, center + half], axis=1))


def from_center_on_square(boxes: Boxes, width: int, height: int) -> Boxes:
    """From centre form, normalised by the square that the image was padded to on its right or bottom (OWLv2).

    ``width`` and ``height`` in pixels before padding; what lies on the padding is cut off.
    """
    side = max(width, height)
    center, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = np.concatenate([center - half, center + half], axis=1)
    return clip(corners * np.array([side / width, side / height, side / width, side / height]))


def from_pixels(boxes: Boxes, width: int, height: int) -> Boxes:
    """From x1, y1, x2, y2 in pixels of an image of ``width`` by ``height``."""
    return clip(boxes / np.array([width, height, width, height], dtype=np.float64))


def to_pixels(boxes: Boxes, width: int, height: int) -> Boxes:
    """To x1, y1, x2, y2 in (fractional) pixels of an image of ``width`` by ``height``, as SAM is asked."""
    return boxes * np.array([width, height, width, height], dtype=np.float64)


def from_places(places: Int[np.ndarray, "n 4"]) -> Boxes:
    """From Florence-2's places: the middle of each thousandth. Corners in the wrong order are put in order."""
    corners = (places.astype(np.float64) + 0.5) / PLACES
    return clip(
        np.concatenate(
            [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], axis=1
        )
    )


def to_places(boxes: Boxes) -> Int[np.ndarray, "n 4"]:
    """To Florence-2's places, 0 to 999: the thousandth that each coordinate falls in."""
    return np.clip(np.floor(boxes * PLACES), 0, PLACES - 1).astype(np.int64)


def clip(boxes: Boxes) -> Boxes:
    """Boxes cut at the image's edges."""
    return np.clip(boxes.astype(np.float64), 0.0, 1.0)


def has_area(boxes: Boxes) -> np.ndarray:
    """Which boxes are more than a line: a box that lay outside the image is none once it is cut."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
