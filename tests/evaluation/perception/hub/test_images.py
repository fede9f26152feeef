"""Images on their way into a model."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from evaluation.perception.hub.images import crop, open_image
from tests.evaluation.perception.hub.conftest import png
from training.errors import FoundryError


def test_reduces_and_lays_transparency_on_white() -> None:
    assert open_image(png(0, 300, 100), "sample s", 60).size == (60, 20)
    assert open_image(png(0, 30, 10), "sample s", 60).size == (30, 10)
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(buffer, "PNG")
    assert open_image(buffer.getvalue(), "sample s", 60).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("data", [b"", b"no image", png(0, 20, 20)[:200]])
def test_a_broken_image_is_named(data: bytes) -> None:
    with pytest.raises(FoundryError, match="sample s9: its image of .* cannot be decoded"):
        open_image(data, "sample s9", 60)


@pytest.mark.parametrize(
    ("box", "margin", "size"),
    [
        ((0.25, 0.5, 0.75, 1.0), 0.0, (100, 50)),
        ((0.25, 0.5, 0.75, 1.0), 0.1, (120, 55)),  # 10 px more on both sides, 5 px above
        ((0.0, 0.0, 1.0, 1.0), 1.0, (200, 100)),
        ((0.5, 0.5, 0.5, 0.5), 0.0, (16, 16)),
        ((1.0, 1.0, 1.0, 1.0), 0.0, (16, 16)),
        ((0.0, 0.2, 0.01, 0.9), 0.0, (16, 70)),
    ],
)
def test_crops(box: tuple[float, ...], margin: float, size: tuple[int, int]) -> None:
    assert crop(Image.new("RGB", (200, 100)), box, margin).size == size


def test_crop_shows_the_box() -> None:
    image = Image.new("RGB", (100, 100))
    image.paste((255, 255, 255), (40, 60, 60, 90))
    assert crop(image, (0.4, 0.6, 0.6, 0.9), 0.0).getextrema() == ((255, 255),) * 3
    assert crop(Image.new("RGB", (5, 7)), (0.5, 0.5, 0.6, 0.6), 0.0).size == (5, 7)


def test_a_rotated_photograph_stands_upright() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert open_image(buffer.getvalue(), "sample a", 512).size == (20, 40)
