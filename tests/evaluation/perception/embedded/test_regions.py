from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.boxes import iou_matrix
from evaluation.perception.embedded.background import _gradient, fit_background
from evaluation.perception.embedded.colors import COLOR_WORDS, color_indices, main_color, rgb_to_lab
from evaluation.perception.embedded.regions import find_regions, shrink
from tests.evaluation.perception.composites import RGB, background, paste, write
from training.errors import FoundryError


@pytest.mark.parametrize(
    ("kind", "colors"),
    [
        ("plain", {"red"}),
        ("two-tone", {"red", "blue"}),
        ("gradient", {"red", "blue"}),
        ("checkered", {"red", "blue"}),
    ],
)
def test_background_kind_and_colors_behind_an_object(kind: str, colors: set[str]) -> None:
    canvas, _ = paste(background(kind, "red", "blue"), "cat", 10, 14, 32)
    found = fit_background(canvas)
    assert (found.kind, set(found.colors)) == (kind, colors)
    assert found.prediction_hwc.shape == canvas.shape


def test_an_object_at_the_edge_is_no_second_color() -> None:
    canvas = background("plain", "red", "red")
    canvas[26:, 12:42] = RGB["blue"]
    found = fit_background(canvas)
    assert (found.kind, found.colors) == ("plain", ("red",))
    assert [region.color for region in find_regions(canvas).regions] == ["blue"]


def test_gradient_fit_is_exact_without_objects() -> None:
    canvas = background("gradient", "red", "blue").astype(np.float64)
    border = np.zeros((64, 64), bool)
    border[[0, -1]], border[:, [0, -1]] = True, True
    np.testing.assert_allclose(_gradient(canvas, border), canvas, atol=1.0)


@pytest.mark.parametrize("kind", ["plain", "two-tone", "gradient", "checkered"])
def test_two_objects_are_found_where_they_are(kind: str) -> None:
    canvas, first = paste(background(kind, "white", "green"), "fish", 2, 4, 28)
    canvas, second = paste(canvas, "drum", 34, 34, 26)
    regions = find_regions(canvas).regions
    overlaps = iou_matrix(np.array([first, second]), np.array([region.box_xyxy_norm for region in regions]))
    assert len(regions) == 2
    assert overlaps.max(axis=1).min() > 0.7


def test_touching_objects_are_parted() -> None:
    canvas, _ = paste(background("plain", "white", "white"), "fish", 2, 10, 30)
    canvas, _ = paste(canvas, "apple", 29, 10, 30)
    assert len(find_regions(canvas).regions) == 2


def test_a_word_is_one_region_that_looks_like_text_and_pictures_do_not() -> None:
    canvas, _ = paste(background("plain", "blue", "blue"), "apple", 16, 24, 36)
    canvas = write(canvas, "STOP", 6, 2, "white", 13)
    regions = find_regions(canvas).regions
    assert [region.looks_like_text for region in regions] == [False, True]
    assert regions[1].box_xyxy_norm[3] < 0.35


def test_nothing_there_and_photographs() -> None:
    assert find_regions(background("plain", "red", "red")).regions == ()
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    layout = find_regions(noise)
    assert layout.background.kind == "unknown"
    assert [region.box_xyxy_norm for region in layout.regions] == [(0.0, 0.0, 1.0, 1.0)]


def test_thumbnails_of_thumbnails_are_refused() -> None:
    with pytest.raises(FoundryError, match="7x20 pixels"):
        find_regions(np.zeros((20, 7, 3), np.uint8))


def test_extreme_shapes_shrink_to_the_analysis_size() -> None:
    assert shrink(np.zeros((40, 640, 3), np.uint8), 64).shape == (4, 64, 3)
    assert len(find_regions(np.zeros((40, 640, 3), np.uint8)).regions) == 1


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(8, 40), st.integers(8, 40), st.just(3))))
def test_boxes_of_any_image_are_valid_sorted_and_repeatable(image: np.ndarray) -> None:
    regions = find_regions(image).regions
    for region in regions:
        x1, y1, x2, y2 = region.box_xyxy_norm
        assert 0 <= x1 < x2 <= 1
        assert 0 <= y1 < y2 <= 1
        assert 0 < region.area_fraction <= (x2 - x1) * (y2 - y1) + 1e-9
        assert region.color in COLOR_WORDS
    areas = [region.area_fraction for region in regions]
    assert areas == sorted(areas, reverse=True)
    assert [region.box_xyxy_norm for region in find_regions(image).regions] == [
        r.box_xyxy_norm for r in regions
    ]


@pytest.mark.parametrize("name", sorted(RGB))
def test_color_words(name: str) -> None:
    assert main_color(np.array([RGB[name]], np.uint8)) == name


def test_a_hue_is_named_before_black_outlines_and_lab_matches_known_values() -> None:
    pixels = np.array([[10, 10, 10]] * 6 + [list(RGB["red"])] * 4, np.uint8)
    assert main_color(pixels) == "red"
    assert [COLOR_WORDS[index] for index in color_indices(pixels[[0, -1]])] == ["black", "red"]
    assert main_color(np.zeros((0, 3), np.uint8)) == "gray"
    lab = rgb_to_lab(np.array([[255.0, 255.0, 255.0], [255.0, 0.0, 0.0]]))
    np.testing.assert_allclose(lab, np.array([[100, 0, 0], [53.24, 80.09, 67.20]]), atol=0.05)
