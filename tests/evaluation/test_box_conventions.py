"""Every convention comes back to the box it came from, and impossible boxes are refused by name."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import box_conventions as boxes
from evaluation.box_conventions import Box
from training.errors import FoundryError

SIZES = st.tuples(st.integers(8, 5000), st.integers(8, 5000))


@st.composite
def norm_boxes(draw: st.DrawFn) -> Box:
    """Boxes with an area that no convention rounds away on images from 8 pixels on."""
    x1, y1 = draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9))
    x2, y2 = (
        draw(st.floats(min_value=x1 + 0.05, max_value=1)),
        draw(st.floats(min_value=y1 + 0.05, max_value=1)),
    )
    return x1, y1, x2, y2


@given(norm_boxes(), SIZES)
def test_pixels_come_back(box: Box, size: tuple[int, int]) -> None:
    width, height = size
    pixels = boxes.to_xyxy_px(box, width, height)
    again = boxes.from_xyxy_px(pixels, width, height, "i", 0)
    for before, after, side in zip(box, again, (width, height) * 2, strict=True):
        assert abs(before - after) * side <= 0.0051
    assert boxes.to_xyxy_px(again, width, height) == pixels


@given(norm_boxes(), SIZES)
def test_coco_comes_back(box: Box, size: tuple[int, int]) -> None:
    width, height = size
    x, y, w, h = boxes.to_xywh_px(box, width, height)
    corners = boxes.to_xyxy_px(box, width, height)
    assert (x + w, y + h) == pytest.approx(corners[2:], abs=1e-6)
    again = boxes.from_xywh_px((x, y, w, h), width, height, "i", 0)
    assert again == pytest.approx(box, abs=0.0052 / min(size))


@given(norm_boxes())
def test_centres_come_back(box: Box) -> None:
    assert boxes.from_cxcywh_norm(boxes.to_cxcywh_norm(box), "i", 0) == pytest.approx(box, abs=1e-9)


@given(norm_boxes())
def test_bins_come_back_within_half_a_bin(box: Box) -> None:
    bins = boxes.to_bins(box)
    assert all(isinstance(value, int) and 0 <= value <= 999 for value in bins)
    again = boxes.from_bins(bins, "i", 0)
    assert again == pytest.approx(box, abs=0.5 / 1000 + 1e-12)
    assert boxes.to_bins(again) == bins


def test_known_values() -> None:
    box = (0.25, 0.5, 0.75, 1.0)
    assert boxes.to_xyxy_px(box, 200, 100) == (50, 50, 150, 100)
    assert boxes.to_xywh_px(box, 200, 100) == (50, 50, 100, 50)
    assert boxes.to_cxcywh_norm(box) == (0.5, 0.75, 0.5, 0.5)
    assert boxes.to_bins(box) == (250, 500, 750, 999)
    assert boxes.from_bins((7, 7, 7, 9), "i", 0) == pytest.approx((0.007, 0.0075, 0.008, 0.0095))
    assert boxes.round_for_layoutsam((0.12345, 0, 0.9996, 1)) == (0.123, 0, 1.0, 1)
    assert boxes.plain_numbers((1.0, 2.5)) == [1, 2.5]


@pytest.mark.parametrize("convention", ["xyxy_norm", "xyxy_px", "xywh_px", "cxcywh_norm", "bins"])
def test_any_convention_by_name(convention: boxes.Convention) -> None:
    box = (0.25, 0.5, 0.75, 0.875)
    written = {
        "xyxy_norm": box,
        "xyxy_px": boxes.to_xyxy_px(box, 80, 40),
        "xywh_px": boxes.to_xywh_px(box, 80, 40),
        "cxcywh_norm": boxes.to_cxcywh_norm(box),
        "bins": tuple(float(value) for value in boxes.to_bins(box)),
    }[convention]
    assert boxes.to_box(written, convention, 80, 40) == pytest.approx(box, abs=0.001)


def test_published_boxes_may_leave_the_image_by_a_pixel() -> None:
    assert boxes.from_xyxy_px((-0.5, -1, 101, 50.2), 100, 50, "i", 0) == (0, 0, 1, 1)
    with pytest.raises(FoundryError, match=r"image sa_1/x.jpg, box 3: .* leaves the image"):
        boxes.from_xyxy_px((0, 0, 102, 50), 100, 50, "sa_1/x.jpg", 3)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ((0.5, 0, 0.5, 1), "has no area"),
        ((0.6, 0, 0.5, 1), "out of order"),
        ((0, 0.9, 1, 0.1), "out of order"),
        ((0, 0, 2, 1), "leaves the image"),
        ((-0.1, 0, 1, 1), "leaves the image"),
        ((0, 0, math.nan, 1), "not finite"),
        ((0, 0, math.inf, 1), "not finite"),
        ((0, 0, 1), "four numbers"),
        (("a", 0, 1, 1), "four numbers"),
    ],
)
def test_impossible_boxes(values: tuple[float, ...], what: str) -> None:
    with pytest.raises(FoundryError, match=rf"image pic, box 7: .*{what}"):
        boxes.check_box(values, "pic", 7)


def test_other_bad_input() -> None:
    with pytest.raises(FoundryError, match="0 x 5"):
        boxes.from_xyxy_px((0, 0, 1, 1), 0, 5, "pic", 0)
    with pytest.raises(FoundryError, match="is no location bins"):
        boxes.from_bins((0, 0, 1000, 5), "pic", 0)
    with pytest.raises(FoundryError, match="is no location bins"):
        boxes.from_bins((0, 0, 1.5, 5), "pic", 0)
    with pytest.raises(FoundryError, match="'yolo'; allowed are xyxy_norm"):
        boxes.to_box((0, 0, 1, 1), "yolo", 1, 1)  # type: ignore[arg-type]
