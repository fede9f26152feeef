"""Any picture finds the nearest bucket, loses only what its ratio must lose, and is resized as squares always were."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.corpus.image_io import resize_square
from assets.encodings.buckets import Geometry, crop_box, nearest_bucket, parse_size, resize_crop
from training.errors import FoundryError

sides = st.integers(1, 4000)
BUCKETS = [(80, 48), (72, 56), (64, 64), (56, 72), (48, 80)]


@given(sides, sides)
def test_nearest_in_log_ratio(height: int, width: int) -> None:
    chosen = BUCKETS[nearest_bucket(height, width, BUCKETS)]

    def far(size: tuple[int, int]) -> float:
        return abs(math.log(size[1] / size[0]) - math.log(width / height))

    assert far(chosen) == pytest.approx(min(far(size) for size in BUCKETS))


@given(sides, sides, st.sampled_from(BUCKETS))
def test_the_crop_is_the_largest_centred_rectangle_of_the_ratio(
    height: int, width: int, size: tuple[int, int]
) -> None:
    top, left, high, wide = crop_box(height, width, size)
    assert top >= 0
    assert top + high <= height
    assert left >= 0
    assert left + wide <= width
    assert high == height or wide == width  # the largest
    assert abs((height - high) - 2 * top) <= 1  # centred
    assert abs((width - wide) - 2 * left) <= 1
    # within a pixel of the bucket's ratio
    assert abs(high * size[1] - wide * size[0]) <= max(size)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([8, 16, 64]))
def test_a_square_bucket_is_todays_square(height: int, width: int, side: int) -> None:
    image = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(resize_crop(image, (side, side)), resize_square(image, side))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(BUCKETS))
def test_the_result_has_the_buckets_size(height: int, width: int, size: tuple[int, int]) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    found = resize_crop(image, size)
    assert found.shape == (*size, 3)
    assert (found == 77).all()


def test_cropping_shows_the_middle() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 255
    assert (resize_crop(image, (8, 8)) == 255).all()
    wide = resize_crop(image, (8, 16))
    assert (wide[:, 4:12] == 255).all()
    assert (wide[:, 0] == 0).all()


def test_settings_become_sizes() -> None:
    assert Geometry.of(64).key() == {"crop": "centre", "sizes": {"64": [[64, 64]]}}
    both = Geometry.of(64, ["48x80", "64x64"], [128])
    assert both.key()["sizes"] == {"64": [[48, 80], [64, 64]], "128": [[96, 160], [128, 128]]}
    for settings_, message in (
        ({"buckets": ["64"]}, "'64' is no size; write HEIGHTxWIDTH"),
        ({"buckets": ["0x64"]}, "is no size"),
        ({"buckets": ["48x80"], "more_sizes": [96, 90]}, "48x80 at 64 pixels has no whole size at 90"),
        ({"more_sizes": [64]}, "repeats a size"),
    ):
        with pytest.raises(FoundryError, match=message):
            Geometry.of(64, **settings_)
    assert parse_size("48x80") == (48, 80)
