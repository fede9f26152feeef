"""Boxes against boxes: overlap, and the pairing of found with wanted ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

MIN_IOU = 0.5  # boxes that overlap less are no match


def match_boxes(
    found: Sequence[tuple[float, ...]], wanted: Sequence[tuple[float, ...]]
) -> Float[np.ndarray, " wanted"]:
    """IoU of each wanted box with the found box it is paired with, one to one, for the largest sum; 0 where none."""
    from scipy.optimize import linear_sum_assignment

    result = np.zeros(len(wanted))
    if not found or not wanted:
        return result
    overlaps = iou_matrix(np.array(wanted, dtype=np.float64), np.array(found, dtype=np.float64))
    # A pair below the threshold is no match, so it must not stand in the way of one.
    rows, columns = linear_sum_assignment(-np.where(overlaps >= MIN_IOU, 1.0 + overlaps, 0.0))
    result[rows] = overlaps[rows, columns]
    return result


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
