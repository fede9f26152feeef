"""Plots are PNG pictures with something in them; no law, no line."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from evaluation.intervals import Interval
from evaluation.plots.basic import (
    COLORS,
    Curve,
    FamilyPoints,
    _running_mean,
    _thousands,
    bars,
    loss_curves,
    scaling_plot,
)
from evaluation.scaling.laws import fit_law
from training.errors import FoundryError


def _pixels_of(png: bytes, color: str) -> int:
    assert png.startswith(b"\x89PNG")
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels - wanted).max(axis=2) < 8).sum())


def _family(y: np.ndarray, sizes: np.ndarray) -> FamilyPoints:
    return FamilyPoints("transformer", sizes, y, None, fit_law(sizes, y, resamples=100))


def test_line_only_for_a_law() -> None:
    sizes = np.geomspace(1e5, 3e6, 6)
    told = _family(0.4 + 10 * sizes**-0.3, sizes)
    untold = _family(0.4 + 10 * sizes[:4] ** -0.3, sizes[:4])
    assert told.law.identifiable
    assert not untold.law.identifiable
    line = _pixels_of(scaling_plot([told], title="t"), COLORS[0])
    no_line = _pixels_of(scaling_plot([untold], title="t"), COLORS[0])
    assert line > 2 * no_line > 0


def test_loss_curves_leave_out_values_that_are_not_finite() -> None:
    images = np.arange(0.0, 3200.0, 32.0)
    loss = 1.0 / (1.0 + images / 500.0)
    loss[50] = np.nan
    png = loss_curves([Curve("_$hidden$", images, loss), Curve("b", images, loss + 0.1)], title="$x$")
    assert _pixels_of(png, COLORS[0]) > 100
    assert _pixels_of(png, COLORS[1]) > 100


def test_bars_show_unknown_values_without_a_bar() -> None:
    known = bars(
        {"a": Interval(0.5, 0.4, 0.6), "b": 0.2}, title="t", x_label="x", references={"ceiling": 0.7}
    )
    unknown = bars({"a": None, "b": None}, title="t", x_label="x")
    assert _pixels_of(known, COLORS[0]) > 1000
    assert _pixels_of(unknown, COLORS[0]) == 0


def test_same_input_same_bytes() -> None:
    assert bars({"a": 1.0}, title="t", x_label="x") == bars({"a": 1.0}, title="t", x_label="x")


def test_running_mean_against_the_definition() -> None:
    values = np.random.default_rng(0).normal(size=17)
    slow = [values[max(0, i - 4) : i + 1].mean() for i in range(17)]
    np.testing.assert_allclose(_running_mean(values, 5), slow)


@pytest.mark.parametrize(("value", "text"), [(950.0, "950"), (2e5, "200k"), (1.5e6, "1.5M"), (3e9, "3B")])
def test_thousands(value: float, text: str) -> None:
    assert _thousands(value) == text


def test_nothing_to_draw() -> None:
    with pytest.raises(FoundryError, match="found no runs"):
        loss_curves([], title="t")
    with pytest.raises(FoundryError, match="found no families"):
        scaling_plot([], title="t")
    with pytest.raises(FoundryError, match="found nothing to draw"):
        bars({}, title="t", x_label="x")
