"""Encoded images as the models take them: upright RGB, at most so large, transparent parts on white."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.errors import FoundryError

if TYPE_CHECKING:
    from PIL import Image

MIN_CROP_PX = 16


def open_image(data: bytes, unit: str, max_side: int) -> Image.Image:
    """Decode an image, turn it upright, and reduce it to at most ``max_side`` pixels on its longer side.

    Raises FoundryError naming the ``unit`` (its sample or entity) when the bytes are no image.
    """
    from PIL import Image, ImageOps

    try:
        image: Image.Image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FoundryError(
            f"{unit}: its image of {len(data)} bytes cannot be decoded ({error}). Replace or remove the image."
        ) from error
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    image = image.convert("RGB")
    image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
    return image


def crop(image: Image.Image, box_xyxy_norm: Sequence[float], margin: float) -> Image.Image:
    """The part of an image in a box, with ``margin`` (a share of the box's side) around it.

    At least 16 pixels wide and high where the image is: processors refuse slivers.
    """
    x1, y1, x2, y2 = (float(value) for value in box_xyxy_norm)
    left, right = _span(x1, x2, margin, image.width)
    top, bottom = _span(y1, y2, margin, image.height)
    return image.crop((left, top, right, bottom))


def _span(start_norm: float, end_norm: float, margin: float, size: int) -> tuple[int, int]:
    """First and past-the-last pixel of a side of a crop."""
    extra = margin * (end_norm - start_norm)
    start = max(math.floor((start_norm - extra) * size), 0)
    end = min(math.ceil((end_norm + extra) * size), size)
    least = min(MIN_CROP_PX, size)
    if end - start < least:
        start = min(max((start + end - least) // 2, 0), size - least)
        end = start + least
    return start, end
