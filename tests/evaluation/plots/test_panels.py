"""Panels and lines are pictures with every series in them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from evaluation.intervals import Interval
from evaluation.plots.basic import COLORS
from evaluation.plots.panels import Line, Panel, lines, panels_of_bars
from training.errors import FoundryError


def _columns_of(png: bytes, color: str) -> np.ndarray:
    """Where along x pixels of a colour stand, in [0, 1]."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return np.flatnonzero((np.abs(pixels - wanted).max(axis=2) < 8).any(axis=0)) / pixels.shape[1]


def test_a_series_has_one_colour_in_all_panels() -> None:
    first = Panel("first", {"a": [0.5, Interval(0.4, 0.3, 0.5)], "b": [0.2, None]})
    second = Panel("second", {"b": [0.7, 0.1]})
    png = panels_of_bars([first, second], ["one", "two"])
    # The legend lies in the middle, across both panels.
    assert _columns_of(png, COLORS[0]).max() < 0.6
    assert _columns_of(png, COLORS[1]).min() < 0.45
    assert _columns_of(png, COLORS[1]).max() > 0.8
    assert png == panels_of_bars([first, second], ["one", "two"])


def test_groups_of_a_single_series_are_told_apart() -> None:
    png = panels_of_bars([Panel("one", {"": [1.0, 2.0, 3.0]})], ["x", "y", "z"])
    assert all(len(_columns_of(png, color)) > 10 for color in COLORS[:3])


def test_lines_of_all_curves() -> None:
    x = np.array([1.0, 10.0, 100.0])
    png = lines(
        [Line("up", x, x), Line("down", x, x[::-1])], title="t", x_label="x", y_label="y", log_axes=True
    )
    assert all(len(_columns_of(png, color)) > 50 for color in COLORS[:2])


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(FoundryError, match="0 panels and 1 groups"):
        panels_of_bars([], ["one"])
    with pytest.raises(FoundryError, match="series 'a' has 1 values; 2 are needed"):
        panels_of_bars([Panel("p", {"a": [1.0]})], ["one", "two"])
    with pytest.raises(FoundryError, match="title: found nothing"):
        lines([], title="title", x_label="x", y_label="y")
