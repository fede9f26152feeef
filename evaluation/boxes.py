"""Boxes against boxes: overlap, and the pairing of found with wanted ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

MIN_IOU = 0.5  # boxes that overlap less are no match
Box = tuple[float, ...]


def match_pairs(
    found: Sequence[Box], wanted: Sequence[Box], min_iou: float = MIN_IOU
) -> list[tuple[int, int, float]]:
    """(found, wanted, IoU) of boxes paired one to one: as many pairs as can be, then for the largest sum of IoU."""
    from scipy.optimize import linear_sum_assignment

    if not found or not wanted:
        return []
    overlaps = iou_matrix(np.array(found, dtype=np.float64), np.array(wanted, dtype=np.float64))
    # A pair below the threshold is no match, so it must not stand in the way of one; one more match is worth more
    # than any sum of overlaps.
    worth = min(overlaps.shape) + 1.0
    rows, columns = linear_sum_assignment(-np.where(overlaps >= min_iou, worth + overlaps, 0.0))
    return [
        (int(row), int(column), float(overlaps[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if overlaps[row, column] >= min_iou
    ]


def iou_matrix(
    first_n4: Float[np.ndarray, "n 4"], second_m4: Float[np.ndarray, "m 4"]
) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every two boxes (normalised xyxy), in [0, 1]; 0 where both are empty."""
    low = np.maximum(first_n4[:, None, :2], second_m4[None, :, :2])
    high = np.minimum(first_n4[:, None, 2:], second_m4[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first_n4, second_m4)]
    total = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)


def holds_point(box: Box, point: tuple[float, float]) -> bool:
    """Whether a point (x, y) lies in a box xyxy, its edges included."""
    x1, y1, x2, y2 = box
    return x1 <= point[0] <= x2 and y1 <= point[1] <= y2
