"""Contrasts as a picture: colours say what holds, and nothing to draw is an error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from evaluation.intervals import Interval
from evaluation.plots.contrasts import STATUS_COLORS, Contrast, contrast_plot
from training.errors import FoundryError


def drawn(*differences: float) -> np.ndarray:
    contrasts = [
        Contrast(f"a {number} over b", Interval(value, value - 0.1, value + 0.1))
        for number, value in enumerate(differences)
    ]
    png = contrast_plot(contrasts, title="Study", x_label="difference")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)


def amount(pixels: np.ndarray, status: str) -> int:
    """How many pixels have the colour of a status, the legend's own among them."""
    colour = STATUS_COLORS[status]
    rgb = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return int((pixels == rgb).all(axis=1).sum())


def test_a_contrast_has_the_colour_of_its_outcome() -> None:
    for difference, outcome in ((0.3, "holds"), (0.05, "inside the noise"), (-0.3, "fails")):
        two, one = drawn(difference, difference), drawn(difference)
        for status in STATUS_COLORS:
            assert (amount(two, status) > amount(one, status)) == (status == outcome)


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(FoundryError, match="Study: found no contrast"):
        contrast_plot([], title="Study", x_label="")
