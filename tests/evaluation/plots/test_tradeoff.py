"""Score over size as a picture: every method is there, and nothing to draw is an error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from evaluation.intervals import Interval
from evaluation.plots.basic import COLORS
from evaluation.plots.tradeoff import MARKERS, TradeOff, style_of, tradeoff_plot
from training.errors import FoundryError


def colours_in(png: bytes) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return {tuple(int(value) for value in pixel) for pixel in np.unique(pixels.reshape(-1, 3), axis=0)}


def test_each_method_is_drawn_in_its_colour() -> None:
    points = [
        TradeOff(f"method {number}", left, Interval(-0.1 * number, -0.2 - 0.1 * number, 0.1))
        for number in range(3)
        for left in (0.5, 0.8)
    ]
    found = colours_in(tradeoff_plot(points, title="Pruned", margin=0.1))
    for number, colour in enumerate(COLORS[:4]):
        rgb = tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))
        assert (rgb in found) == (number < 3)


def test_methods_that_share_a_colour_have_markers_of_their_own() -> None:
    many = len(COLORS) * len(MARKERS)
    assert len({style_of(number) for number in range(many)}) == many


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(FoundryError, match="no smaller model"):
        tradeoff_plot([], title="Pruned")
