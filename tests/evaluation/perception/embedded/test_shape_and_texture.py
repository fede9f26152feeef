from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.perception.embedded.colors import two_colors
from evaluation.perception.embedded.shape_and_texture import SHAPES, TEXTURES, shape_word, texture_word
from evaluation.perception.questions import attributes_of

SIDE = 48
Y, X = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
MASKS = {
    "round": np.hypot(X, Y) < 20,
    "square": (abs(X) < 18) & (abs(Y) < 17),
    "wide": (abs(X) < 20) & (abs(Y) < 9),
    "tall": (abs(X) < 6) & (abs(Y) < 20),
    "irregular": (abs(X) < 20) & (abs(Y) < 20) & (abs(X) > abs(Y)),
}
SURFACES = {
    "smooth": np.full((SIDE, SIDE), 90.0),
    "striped": 120 + 100 * np.sign(np.sin(X * 1.2)),
    "spotted": 60 + 180 * ((np.sin(X * 0.8) > 0.6) & (np.sin(Y * 0.8) > 0.6)),
    "detailed": 120 + 100 * np.sign(X * Y),
}


def rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("shape", MASKS)
def test_shapes(shape: str) -> None:
    assert shape_word(MASKS[shape]) == shape
    shifted = np.zeros((SIDE + 30, SIDE + 10), dtype=bool)
    shifted[25 : 25 + SIDE, 3 : 3 + SIDE] = MASKS[shape]
    assert shape_word(shifted) == shape


def test_holes_do_not_change_a_shape() -> None:
    assert shape_word(MASKS["round"] & (np.hypot(X, Y) > 8)) == "round"


@pytest.mark.parametrize("texture", SURFACES)
def test_textures_inside_a_mask_whatever_lies_outside(texture: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(float)
    picture = rgb(np.where(MASKS["round"], SURFACES[texture], noise))
    assert texture_word(picture, MASKS["round"]) == texture


def test_turned_stripes_are_stripes() -> None:
    for angle in np.linspace(0, np.pi, 5):
        surface = 120 + 100 * np.sin((X * np.cos(angle) + Y * np.sin(angle)) * 1.0)
        assert texture_word(rgb(surface), MASKS["round"]) == "striped"


@settings(deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(0, 9))
def test_any_mask_has_words(mask: np.ndarray, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
    assert shape_word(mask) in SHAPES
    assert texture_word(picture, mask) in TEXTURES


def test_two_colors() -> None:
    red, blue, white = (
        [np.array(color, dtype=np.uint8)] for color in ((215, 35, 45), (30, 90, 200), (250, 250, 250))
    )
    assert two_colors(np.array(red * 8 + blue * 1)) == ("red", "")
    assert two_colors(np.array(red * 7 + blue * 3)) == ("red", "blue")
    assert two_colors(np.array(white * 6 + red * 4)) == ("red", "white")
    assert two_colors(np.zeros((0, 3), dtype=np.uint8)) == ("gray", "")


def test_the_benchmark_reads_every_word_that_is_measured() -> None:
    assert [attributes_of(f"a thing with a {word} outline")["shape"] for word in SHAPES] == list(SHAPES)
    assert [attributes_of(f"a {word} thing")["texture"] for word in TEXTURES] == list(TEXTURES)
