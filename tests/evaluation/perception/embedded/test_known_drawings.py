"""Drawings found one behind another, in pictures composed here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.corpus import art
from evaluation.boxes import match_pairs
from evaluation.perception.embedded.known_drawings import Found, KnownDrawings
from evaluation.perception.embedded.regions import find_regions
from evaluation.perception.embedded.sized_drawings import size_drawing
from tests.evaluation.perception.composites import PICTURES, Box, background, paste

CONCEPTS = tuple(name for name in PICTURES if name != "drum")
LEFT_TOP, RIGHT_BOTTOM = (4, 6), (20, 16)


@pytest.fixture(scope="module")
def known() -> KnownDrawings:
    return KnownDrawings(CONCEPTS, np.stack([art.render(PICTURES[name], 96) for name in CONCEPTS]), 64)


def _differs(image: np.ndarray, plain: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(image.astype(int) - plain.astype(int)).max(axis=-1) > 30)


def _overlapping(behind: str, front: str) -> tuple[np.ndarray, list[tuple[str, Box]]]:
    canvas = background("plain", "white", "white")
    canvas, first = paste(canvas, behind, *LEFT_TOP, 34)
    canvas, second = paste(canvas, front, *RIGHT_BOTTOM, 36)
    return canvas, [(behind, first), (front, second)]


@pytest.mark.parametrize(
    ("behind", "front"), [("apple", "cat"), ("cat", "tree"), ("fish", "apple"), ("tree", "fish")]
)
def test_a_drawing_behind_another_is_found_whole(known: KnownDrawings, behind: str, front: str) -> None:
    image, truth = _overlapping(behind, front)
    found = known.find(image, _differs(image, background("plain", "white", "white")))
    assert [item.concept for item in found] == [front, behind]
    for item, (_, box) in zip(found, reversed(truth), strict=True):
        ((_, _, iou),) = match_pairs([tuple(value / 64 for value in item.box)], [box])
        assert iou > 0.85
        assert item.agreement > 0.9
    assert not (found[0].mask & found[1].mask).any()
    assert found[1].mask.sum() < found[1].whole.sum()


def test_regions_are_named_by_known_drawings_and_others_keep_their_pixels(known: KnownDrawings) -> None:
    canvas, apple = paste(background("plain", "blue", "blue"), "apple", 4, 4, 30)
    canvas, _ = paste(canvas, "drum", 26, 24, 32)  # which the bank lacks
    layout = find_regions(canvas, known)
    assert sorted(region.concept for region in layout.regions) == ["", "apple"]
    (named,) = [region for region in layout.regions if region.concept]
    ((_, _, iou),) = match_pairs([named.box_xyxy_norm], [apple])
    assert iou > 0.85
    assert {region.concept for region in find_regions(canvas).regions} == {""}


def test_a_thing_that_is_no_drawing_of_the_bank_is_left_alone(known: KnownDrawings) -> None:
    canvas, _ = paste(background("checkered", "blue", "white"), "drum", 10, 10, 40)
    plain = background("checkered", "blue", "white")
    assert known.find(canvas, _differs(canvas, plain)) == []
    assert known.find(canvas[:32], _differs(canvas, plain)[:32]) == []  # a size that is not searched


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_noise_holds_no_drawing(known: KnownDrawings, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    found: list[Found] = known.find(image, np.ones((64, 64), dtype=bool))
    assert found == []


@pytest.mark.parametrize("side_px", [18, 31, 48])
def test_sized_drawings_are_the_rendered_ones(side_px: int) -> None:
    """Against the vector drawing, rendered at that size: the same extent, and nearly the same colours."""
    sized = size_drawing(art.render("cat face", 96), side_px)
    rendered = art.render("cat face", side_px)
    ys, xs = np.nonzero(rendered[..., 3] >= 128)
    assert abs(sized.height - (ys.max() - ys.min() + 1)) <= 1
    assert abs(sized.width - (xs.max() - xs.min() + 1)) <= 1
    own = {tuple(place) for place in sized.places}
    assert not own & {tuple(place) for place in sized.rim_places}
    assert np.abs(sized.rgb.mean(axis=0) - rendered[ys, xs, :3].mean(axis=0)).max() < 8
