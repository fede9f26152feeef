"""COCO-MIG (arXiv 2402.05408, as 3DIS-FLUX scores by it): is every instance in its place, and in its colour?

Of each instance a detector is asked for its class; the found box that overlaps the wanted one most has to reach an IoU of .5. A
segmenter is asked at the *wanted* box; a fifth of the pixels of its mask have to be in the wanted colour's range. In its place a wrong
colour makes the IoU 0; out of its place the IoU counts as it is, whatever the colour, and nothing found is 0. Scores depend on who detects and segments, so that their names stand beside
every number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from evaluation.boxes import MIN_IOU, Box, iou_matrix
from evaluation.intervals import Interval
from evaluation.metrics.placement import ratio_over_pictures
from training.errors import FoundryError

IN_PLACE, IN_COLOR = MIN_IOU, 0.2
"""Least IoU, and least share of the mask's pixels in the colour's range."""
NO_OVERLAP_NMS = 0.8
"""IoU above which a detector's lower-scored box is dropped."""


@dataclass(frozen=True)
class Range:
    """Inclusive bounds in OpenCV's HSV: hue in [0, 180), saturation and value in [0, 255]."""

    hue: tuple[int, int] = (0, 180)
    saturation: tuple[int, int] = (0, 255)
    value: tuple[int, int] = (0, 255)

    def holds(self, hsv: UInt8[np.ndarray, "*n 3"]) -> Bool[np.ndarray, "*n"]:
        """Which pixels lie inside."""
        inside = [
            (hsv[..., channel] >= low) & (hsv[..., channel] <= high)
            for channel, (low, high) in enumerate((self.hue, self.saturation, self.value))
        ]
        return np.logical_and.reduce(inside)


_VIVID = {"saturation": (50, 255), "value": (70, 255)}
COLOR_RANGES: Mapping[str, tuple[Range, ...]] = {
    "red": (Range((0, 9), **_VIVID), Range((159, 180), **_VIVID)),
    "yellow": (Range((25, 35), **_VIVID),),
    "green": (Range((36, 89), **_VIVID),),
    "blue": (Range((90, 128), **_VIVID),),
    "black": (Range(value=(0, 30)),),
    "white": (Range(saturation=(0, 43), value=(221, 255)),),
    "brown": (Range((6, 25), (43, 255), (35, 255)),),
}
"""The seven colours, as published."""


def color_share(
    image: UInt8[np.ndarray, "height width 3"], mask: Bool[np.ndarray, "height width"], color: str
) -> float:
    """Share of a mask's pixels in a colour's range; 0 where the mask is empty. ``image`` is RGB.

    Raises FoundryError for a colour without a range.
    """
    import cv2

    if color not in COLOR_RANGES:
        raise FoundryError(f"color is '{color}'; COCO-MIG knows {', '.join(COLOR_RANGES)}")
    pixels = np.ascontiguousarray(image[mask])[None]
    if not pixels.size:
        return 0.0
    hsv = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), np.uint8)[0]
    return float(np.logical_or.reduce([part.holds(hsv) for part in COLOR_RANGES[color]]).mean())


@dataclass(frozen=True)
class InstanceFound:
    """What was found of one instance. ``best_iou``: of the found box that overlaps the wanted one most, 0 where nothing was found;
    ``color_share``: of the mask at the wanted box."""

    best_iou: float
    color_share: float

    @property
    def in_place(self) -> bool:
        """Whether it stands where it should."""
        return self.best_iou >= IN_PLACE

    @property
    def in_color(self) -> bool:
        """Whether it looks as it should."""
        return self.color_share >= IN_COLOR

    @property
    def is_right(self) -> bool:
        """Whether both hold."""
        return self.in_place and self.in_color

    @property
    def counted_iou(self) -> float:
        """The IoU that counts in the mean: 0 in its place in a wrong colour, and out of its place whatever it is."""
        return 0.0 if self.in_place and not self.in_color else self.best_iou


def found_of(
    wanted: Box,
    color: str,
    boxes: Sequence[Box],
    image: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
) -> InstanceFound:
    """One instance, from the boxes that a detector found of its class and the segmenter's best mask at the wanted box."""
    best = float(_overlaps([wanted], boxes).max(initial=0.0))
    return InstanceFound(best, color_share(image, mask, color))


def without_overlaps(
    boxes: Sequence[Box], scores: Sequence[float], most_iou: float = NO_OVERLAP_NMS
) -> list[int]:
    """Numbers of the boxes that non-maximum suppression keeps, the highest score first."""
    overlaps = _overlaps(boxes, boxes)
    kept: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        if all(overlaps[number, other] <= most_iou for other in kept):
            kept.append(number)
    return kept


def _overlaps(some: Sequence[Box], others: Sequence[Box]) -> Float[np.ndarray, "n m"]:
    first, second = (np.array(boxes, np.float64).reshape(-1, 4) for boxes in (some, others))
    return iou_matrix(first, second)


@dataclass(frozen=True)
class MigScores:
    """Of some pictures: instance success rate (ISR), mean IoU and image success rate (SR), with 95% intervals over pictures."""

    instance_success: Interval
    mean_iou: Interval
    image_success: Interval
    num_pictures: int
    num_instances: int


def score_pictures(pictures: Sequence[Sequence[InstanceFound]], seed: int = 0) -> MigScores:
    """Scores of pictures with at least one instance each; means are over instances, as published, intervals resample pictures.

    Raises FoundryError where there is no picture, or one without instances.
    """
    if not pictures or not all(pictures):
        raise FoundryError(
            f"COCO-MIG: {sum(not found for found in pictures)} of {len(pictures)} pictures have no instance; at least one "
            "picture is needed, and an instance in each"
        )
    counts = np.array([len(found) for found in pictures])
    right = np.array([float(sum(one.is_right for one in found)) for found in pictures])
    iou = np.array([sum(one.counted_iou for one in found) for found in pictures])
    whole = (right == counts).astype(np.float64)
    ones = np.ones_like(counts)
    return MigScores(
        ratio_over_pictures(right, counts, seed),
        ratio_over_pictures(iou, counts, seed),
        ratio_over_pictures(whole, ones, seed),
        len(pictures),
        int(counts.sum()),
    )


def score_by_level(pictures: Sequence[Sequence[InstanceFound]], seed: int = 0) -> dict[str, MigScores]:
    """By the number of instances, "L2" to "L6" and what else there is, and "AVG": over all instances, so that pictures with more of them
    weigh more (the published average)."""
    levels = sorted({len(found) for found in pictures})
    by_level = {
        f"L{level}": score_pictures([found for found in pictures if len(found) == level], seed)
        for level in levels
        if level
    }
    return {**by_level, "AVG": score_pictures(pictures, seed)}
