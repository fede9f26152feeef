"""COCO-MIG: colours by OpenCV's numbers, places by the best box, and what counts for what."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmarks.coco_mig import (
    COLOR_RANGES,
    InstanceFound,
    color_share,
    found_of,
    score_by_level,
    score_pictures,
    without_overlaps,
)
from training.errors import FoundryError
from training.layout.boxes import BoxNorm

WANTED: BoxNorm = (0.0, 0.0, 0.5, 1.0)
HALF: BoxNorm = (0.25, 0.0, 0.5, 1.0)  # IoU .5
LESS: BoxNorm = (0.26, 0.0, 0.5, 1.0)
RGB = {
    "red": (210, 30, 30), "yellow": (240, 220, 30), "green": (30, 160, 60), "blue": (40, 70, 200),
    "black": (10, 10, 12), "white": (250, 250, 248), "brown": (120, 70, 30),
}  # fmt: skip


def picture(color: tuple[int, int, int], share: float) -> np.ndarray:
    """A grey picture whose first rows are of a colour."""
    image = np.full((20, 10, 3), 128, np.uint8)
    image[: round(20 * share)] = color
    return image


EVERYWHERE = np.ones((20, 10), bool)


@pytest.mark.parametrize("color", list(COLOR_RANGES))
def test_a_colour_is_told_from_all_others(color: str) -> None:
    image = picture(RGB[color], 1.0)
    assert color_share(image, EVERYWHERE, color) == 1.0
    others = [other for other in COLOR_RANGES if other != color]
    assert [color_share(image, EVERYWHERE, other) for other in others] == [0.0] * 6


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_vivid_hues_are_as_published(red: int, green: int, blue: int) -> None:
    """Against the hue of another library, away from the edges, where OpenCV rounds."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    degrees = hue * 180
    image = np.full((1, 1, 3), (red, green, blue), np.uint8)
    found = {
        name for name in ("yellow", "green", "blue") if color_share(image, np.ones((1, 1), bool), name) == 1.0
    }
    if saturation * 255 > 52 and value * 255 > 71:
        for name, low, high in (("yellow", 25, 35), ("green", 36, 89), ("blue", 90, 128)):
            if low + 1 < degrees < high - 1:
                assert found == {name}
    if value * 255 < 69:
        assert not found


def test_a_fifth_of_the_mask_is_enough() -> None:
    enough = found_of(WANTED, "red", [WANTED], picture(RGB["red"], 0.2), EVERYWHERE)
    little = found_of(WANTED, "red", [WANTED], picture(RGB["red"], 0.15), EVERYWHERE)
    assert (enough.is_right, enough.counted_iou) == (True, 1.0)
    assert (little.is_right, little.in_place, little.counted_iou) == (False, True, 0.0)
    none = np.zeros((20, 10), bool)
    assert found_of(WANTED, "red", [WANTED], picture(RGB["red"], 1.0), none).color_share == 0.0


def test_the_best_box_decides_and_a_wrong_place_still_counts_for_the_mean() -> None:
    image = picture(RGB["red"], 1.0)
    best = found_of(WANTED, "red", [LESS, HALF, (0.6, 0.0, 1.0, 1.0)], image, EVERYWHERE)
    assert best.best_iou == pytest.approx(0.5)
    assert best.is_right
    off = found_of(WANTED, "red", [LESS], image, EVERYWHERE)
    assert not off.in_place
    assert off.counted_iou == pytest.approx(0.48)
    wrong_color_too = found_of(WANTED, "blue", [LESS], image, EVERYWHERE)
    assert wrong_color_too.counted_iou == pytest.approx(0.48)  # whose colour nobody looks at
    assert found_of(WANTED, "red", [], image, EVERYWHERE).counted_iou == 0.0


def test_scores_are_over_instances_and_levels_by_their_number() -> None:
    right, wrong_color, wrong_place = (
        InstanceFound(0.9, 1.0),
        InstanceFound(0.9, 0.1),
        InstanceFound(0.3, 1.0),
    )
    pictures = [[right, right], [right, wrong_color], [right, right, wrong_place]]
    scores = score_by_level(pictures)
    assert list(scores) == ["L2", "L3", "AVG"]
    assert scores["L2"].instance_success.value == pytest.approx(3 / 4)
    assert scores["L3"].instance_success.value == pytest.approx(2 / 3)
    whole = scores["AVG"]
    assert whole.instance_success.value == pytest.approx(5 / 7)  # not the mean of the levels
    assert whole.mean_iou.value == pytest.approx((5 * 0.9 + 0.3) / 7)
    assert whole.image_success.value == pytest.approx(1 / 3)
    assert (whole.num_pictures, whole.num_instances) == (3, 7)
    assert whole.instance_success.low < 5 / 7 < whole.instance_success.high


def test_overlapping_boxes_are_found_once() -> None:
    boxes: list[BoxNorm] = [(0.0, 0.0, 0.5, 1.0), (0.02, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    assert without_overlaps(boxes, [0.5, 0.9, 0.1]) == [1, 2]
    assert without_overlaps([], []) == []


def test_what_cannot_be_scored_is_told() -> None:
    with pytest.raises(FoundryError, match="'purple'; COCO-MIG knows red, yellow"):
        color_share(picture((0, 0, 0), 0), EVERYWHERE, "purple")
    with pytest.raises(FoundryError, match="1 of 2 pictures have no instance"):
        score_pictures([[InstanceFound(1.0, 1.0)], []])
