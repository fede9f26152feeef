"""Aspect-ratio buckets: which picture goes into which size, and how it is brought to it.

Small pure functions. A picture goes to the bucket whose ratio of sides is nearest in logarithm, so that twice as wide
and twice as high are equally far from square, and loses what lies outside of the largest centred rectangle of that
ratio.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from training.errors import FoundryError

Size = tuple[int, int]  # height, width in pixels
CROP = "centre"


@dataclass(frozen=True)
class Resolution:
    """Sizes that pictures are brought to: ``side`` is the side of the square, ``buckets`` the other sizes too."""

    side: int
    buckets: tuple[Size, ...]


@dataclass(frozen=True)
class Geometry:
    """Every size at which pictures are encoded; one latent a picture and resolution."""

    resolutions: tuple[Resolution, ...]

    @classmethod
    def of(cls, image_size: int, buckets: Sequence[str] = (), more_sizes: Sequence[int] = ()) -> Geometry:
        """From the settings of ``image_latents``; buckets are given for ``image_size`` and grow with the others.

        Raises FoundryError for a bucket that is no size, or has no whole number of pixels at another resolution.
        """
        first = tuple(parse_size(text) for text in buckets) or ((image_size, image_size),)
        found = [
            Resolution(side, tuple(_scaled(size, side, image_size) for size in first))
            for side in (image_size, *more_sizes)
        ]
        if len({entry.side for entry in found}) < len(found):
            raise FoundryError(
                f"more_sizes: {list(more_sizes)} repeats a size; name each once, without image_size"
            )
        return cls(tuple(found))

    def key(self) -> dict[str, Any]:
        """What of it belongs into a digest: resolutions, buckets and crop."""
        sizes = {str(entry.side): [list(size) for size in entry.buckets] for entry in self.resolutions}
        return {"crop": CROP, "sizes": sizes}


def parse_size(text: str) -> Size:
    """``HEIGHTxWIDTH`` in pixels. Raises FoundryError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if found is None:
        raise FoundryError(f"buckets: '{text}' is no size; write HEIGHTxWIDTH in pixels, such as 64x96")
    return int(found[1]), int(found[2])


def nearest_bucket(height: int, width: int, buckets: Sequence[Size]) -> int:
    """The bucket whose log ratio of sides is nearest; of equally near ones the first."""
    wanted = math.log(width / height)
    distances = [abs(math.log(wide / high) - wanted) for high, wide in buckets]
    return distances.index(min(distances))


def crop_box(height: int, width: int, size: Size) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest centred rectangle with the ratio of ``size``, in whole pixels."""
    high, wide = size
    if height * wide >= width * high:  # taller than the bucket: all of the width stays
        cropped = max(1, min(height, round(width * high / wide)))
        return (height - cropped) // 2, 0, cropped, width
    cropped = max(1, min(width, round(height * wide / high)))
    return 0, (width - cropped) // 2, height, cropped


def resize_crop(image: UInt8[np.ndarray, "h w 3"], size: Size) -> UInt8[np.ndarray, "high wide 3"]:
    """The largest centred rectangle of a bucket's ratio at its size: area means when shrinking, bicubic when enlarging."""
    from PIL import Image

    top, left, height, width = crop_box(image.shape[0], image.shape[1], size)
    cut = np.ascontiguousarray(image[top : top + height, left : left + width])
    if (height, width) == size:
        return cut
    how = Image.Resampling.BOX if height * width > size[0] * size[1] else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(cut).resize((size[1], size[0]), how))


def _scaled(size: Size, side: int, base: int) -> Size:
    height, width = (value * side for value in size)
    if height % base or width % base:
        raise FoundryError(
            f"buckets: {size[0]}x{size[1]} at {base} pixels has no whole size at {side}; choose sides so that "
            f"{side} / {base} of them are whole"
        )
    return height // base, width // base
