"""Encoded images as the models take them: RGB, at most so large, transparent parts on white."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.errors import FoundryError

if TYPE_CHECKING:
    from PIL import Image


def open_image(data: bytes, unit: str, max_side: int) -> Image.Image:
    """Decode an image and reduce it to at most ``max_side`` pixels on its longer side.

    Raises FoundryError naming the ``unit`` (its sample or entity) when the bytes are no image.
    """
    from PIL import Image

    try:
        image: Image.Image = Image.open(io.BytesIO(data))
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
    """The part of an image in a box, with ``margin`` (a share of the box's side) around it; at least one pixel."""
    x1, y1, x2, y2 = (float(value) for value in box_xyxy_norm)
    dx, dy = margin * (x2 - x1), margin * (y2 - y1)
    left = min(max(int((x1 - dx) * image.width), 0), image.width - 1)
    top = min(max(int((y1 - dy) * image.height), 0), image.height - 1)
    right = min(max(round((x2 + dx) * image.width), left + 1), image.width)
    bottom = min(max(round((y2 + dy) * image.height), top + 1), image.height)
    return image.crop((left, top, right, bottom))
