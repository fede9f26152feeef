"""Box conventions against values worked out by hand, and there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.perception.hub import box_conventions


def rows(*values: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_centre_form() -> None:
    found = box_conventions.from_center_norm(rows((0.5, 0.4, 0.2, 0.4), (0.1, 0.9, 0.4, 0.4)))
    np.testing.assert_allclose(found, rows((0.4, 0.2, 0.6, 0.6), (0.0, 0.7, 0.3, 1.0)), atol=1e-12)


def test_centre_form_on_the_padded_square() -> None:
    # 400 x 200 is padded to 400 x 400 below: y of the square is half of the image's.
    wide = box_conventions.from_center_on_square(
        rows((0.5, 0.25, 0.5, 0.25), (0.5, 0.75, 0.2, 0.2)), 400, 200
    )
    np.testing.assert_allclose(wide, rows((0.25, 0.25, 0.75, 0.75), (0.4, 1.0, 0.6, 1.0)), atol=1e-12)
    assert box_conventions.has_area(wide).tolist() == [True, False]  # the second lay on the padding
    tall = box_conventions.from_center_on_square(rows((0.25, 0.5, 0.25, 0.5)), 200, 400)
    np.testing.assert_allclose(tall, rows((0.25, 0.25, 0.75, 0.75)), atol=1e-12)


def test_pixels() -> None:
    found = box_conventions.from_pixels(rows((10, 20, 50, 100), (-5, 0, 120, 300)), 100, 200)
    np.testing.assert_allclose(found, rows((0.1, 0.1, 0.5, 0.5), (0, 0, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(box_conventions.to_pixels(found, 100, 200)[0], [10, 20, 50, 100], atol=1e-12)


def test_places_of_florence() -> None:
    places = np.array([[0, 52, 999, 330], [400, 610, 52, 330]])
    expected = rows((0.0005, 0.0525, 0.9995, 0.3305), (0.0525, 0.3305, 0.4005, 0.6105))
    np.testing.assert_allclose(box_conventions.from_places(places), expected, atol=1e-12)
    assert box_conventions.to_places(rows((0.0, 0.0525, 1.0, 0.3305))).tolist() == [[0, 52, 999, 330]]


unit = st.floats(0, 1)


@st.composite
def corners(draw: st.DrawFn) -> np.ndarray:
    x, y = sorted([draw(unit), draw(unit)]), sorted([draw(unit), draw(unit)])
    return rows((x[0], y[0], x[1], y[1]))


@given(corners(), st.integers(1, 4000), st.integers(1, 4000))
def test_there_and_back(box: np.ndarray, width: int, height: int) -> None:
    center = np.concatenate([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], axis=1)
    np.testing.assert_allclose(box_conventions.from_center_norm(center), box, atol=1e-9)
    np.testing.assert_allclose(
        box_conventions.from_pixels(box_conventions.to_pixels(box, width, height), width, height),
        box,
        atol=1e-9,
    )
    side = max(width, height)
    on_square = center * np.array([width, height, width, height]) / side
    np.testing.assert_allclose(
        box_conventions.from_center_on_square(on_square, width, height), box, atol=1e-9
    )
    assert (
        np.abs(box_conventions.from_places(box_conventions.to_places(box)) - box).max()
        <= 0.5 / box_conventions.PLACES + 1e-9
    )


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeError):
        box_conventions.clip(np.zeros((2, 3)))
