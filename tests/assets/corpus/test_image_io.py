from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assets.corpus.image_io import ImageProblem, decode_rgb, encode_png, resize_square
from tests.assets.corpus.makers import huge_png_header, picture


def _encode(image: Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=fmt, **options)
    return buffer.getvalue()


def test_png_round_trip_is_exact_and_repeatable() -> None:
    image = np.random.default_rng(0).integers(0, 256, (13, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode_rgb(encode_png(image)), image)
    assert encode_png(image) == encode_png(image.copy())


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "RGB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("RGB", (6, 4), (200, 30, 30)).convert(mode)
    decoded = decode_rgb(_encode(image, "TIFF"))
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoded, expected)


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (decode_rgb(_encode(clear)) == 255).all()
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert np.abs(decode_rgb(_encode(half)).astype(int) - 127).max() <= 1


def test_palette_transparency_is_laid_over_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert (decode_rgb(_encode(image, transparency=0)) == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    assert decode_rgb(_encode(Image.fromarray(grey)))[0, :, 0].tolist() == [0, 100, 255]


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (8, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    assert decode_rgb(_encode(image, "JPEG", exif=exif)).shape == (8, 4, 3)


def test_oversize_is_told_from_the_header_alone() -> None:
    with pytest.raises(ImageProblem, match=r"8000 x 8000 pixels, at most 50000000") as caught:
        decode_rgb(huge_png_header(8000, 8000))
    assert caught.value.reason == "oversize"
    with pytest.raises(ImageProblem) as caught:  # beyond Pillow's own limit
        decode_rgb(huge_png_header(60000, 60000))
    assert caught.value.reason == "oversize"
    with pytest.raises(ImageProblem) as caught:
        decode_rgb(picture(0, 20, 20), max_pixels=399)
    assert caught.value.reason == "oversize"
    assert decode_rgb(picture(0, 20, 20), max_pixels=400).shape == (20, 20, 3)


@pytest.mark.parametrize("data", [b"", b"GIF", b"not an image", picture(0)[:60], huge_png_header(8, 8)])
def test_broken_images_are_named_so(data: bytes) -> None:
    with pytest.raises(ImageProblem) as caught:
        decode_rgb(data)
    assert caught.value.reason == "broken_image"


_FORMATS = {fmt: picture(1, 24, 24, fmt) for fmt in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(_FORMATS)), st.data())
def test_damaged_bytes_decode_or_raise_an_image_problem(fmt: str, data: st.DataObject) -> None:
    damaged = bytearray(_FORMATS[fmt])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    assert _outcome(bytes(damaged[:cut])) in ("decoded", "broken_image", "oversize")


def _outcome(data: bytes) -> str:
    """Any exception but ImageProblem fails the test that calls this."""
    try:
        decode_rgb(data, max_pixels=100_000)
    except ImageProblem as problem:
        return problem.reason
    return "decoded"


def test_resize_square_crops_the_centre_and_averages_areas() -> None:
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 2:10] = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image[:, :2], image[:, 10:] = 255, 255  # outside the centred square
    slow = image[:, 2:10].reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize_square(image, 4).astype(float) - slow).max() <= 1
    assert np.array_equal(resize_square(image, 8), image[:, 2:10])
    assert resize_square(image, 32).shape == (32, 32, 3)
