"""Encoded images as arrays."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8

from training.errors import FoundryError


def decode_image(data: bytes, unit: str) -> UInt8[np.ndarray, "h w 3"]:
    """Encoded bytes as upright RGB, transparency over white. Raises FoundryError that names the ``unit``."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise FoundryError(
            f"{unit}: image cannot be decoded ({error}); land the sample again or remove it"
        ) from error
    paper = Image.new("RGBA", upright.size, (255, 255, 255, 255))
    paper.alpha_composite(upright)
    return np.asarray(paper.convert("RGB"))
