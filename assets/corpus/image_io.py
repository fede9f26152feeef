"""Pictures in and out of bytes: decode with care, crop, resize, encode."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from training.errors import FoundryError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
"""Default cap on an image's area. The header is checked before anything is decoded."""

# What Pillow's decoders raise on damaged bytes, by the formats we accept.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")


class ImageProblem(FoundryError):  # noqa: N818
    """An image that cannot be used; ``reason`` is ``broken_image`` or ``oversize``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode_rgb(data: bytes, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image upright (EXIF), its transparency over white, the first frame of an animation.

    Raises ImageProblem with reason ``oversize`` above ``max_pixels`` and ``broken_image`` when it cannot be decoded.
    """
    try:
        image = _open(data, max_pixels)
        return np.asarray(_over_white(_upright(image)))
    except _DECODER_ERRORS as error:
        raise ImageProblem("broken_image", _one_line(error)) from error


def resize_square(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The largest centred square at ``size`` pixels: area means when shrinking, bicubic when enlarging."""
    from PIL import Image

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == size:
        return square
    how = Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(square).resize((size, size), how))


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """PNG bytes of an RGB image; equal pixels give equal bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG")
    return buffer.getvalue()


def _open(data: bytes, max_pixels: int) -> Image:
    """The opened, not yet decoded image, its area checked."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow's own cap only warns between 89 and 179 megapixels; ours decides, just below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ImageProblem("oversize", _one_line(error)) from error
    except UnidentifiedImageError as error:
        # Pillow's own words hold an address in memory, which would differ at each repetition.
        raise ImageProblem("broken_image", f"{len(data)} bytes of no known image format") from error
    num_pixels = image.width * image.height
    if num_pixels > max_pixels:
        raise ImageProblem(
            "oversize", f"{image.width} x {image.height} pixels, at most {max_pixels} pixels are allowed"
        )
    return image


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _over_white(image: Image) -> Image:
    """RGB: transparency over white, 16-bit grey scaled down rather than clipped."""
    from PIL import Image

    if image.mode in _SIXTEEN_BIT_MODES or image.mode == "I":
        grey = np.asarray(image, np.float64) / 257.0
        return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
