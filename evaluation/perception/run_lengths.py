"""Masks as COCO's compressed run lengths: the text that pycocotools writes and reads, in plain numpy.

A mask is read column by column. Run lengths alternate between background and foreground, background first (a run of 0
where the first pixel is foreground). From the fourth run on the difference to the run two before is written. Numbers
are signed, least significant five bits first, one printable character per five bits: bit 5 says that more follow, and
48 is added to reach the printable characters '0' to 'o'.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from training.errors import FoundryError

_FIRST_CHARACTER = 48
_BITS, _LOW_BITS, _SIGN_BIT, _MORE_BIT = 5, 0x1F, 0x10, 0x20
_MAX_GROUPS = 12  # 60 bits


def encode_mask(mask: Bool[np.ndarray, "h w"]) -> str:
    """The mask as compressed run lengths, character for character what pycocotools writes."""
    pixels = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    starts_on = [0] if pixels.size and pixels[0] else []
    bounds = np.concatenate([[0], starts_on, changes, [pixels.size]]).astype(np.int64)
    return _write_numbers(_to_differences(np.diff(bounds)))


def decode_mask(text: str, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """The mask of ``height`` by ``width`` pixels that the text describes.

    Raises FoundryError when the text is no run lengths, or not of a mask of that size.
    """
    runs = _from_differences(_read_numbers(text))
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise FoundryError(
            f"mask_rle: run lengths cover {int(runs.sum())} pixels, not the {height * width} of a mask of "
            f"{height} by {width}. Give the height and width that the mask was written with."
        )
    is_on = np.arange(len(runs)) % 2 == 1
    return np.repeat(is_on, runs).reshape((height, width), order="F")


def mask_area(text: str) -> int:
    """Foreground pixels of a mask, without drawing it. Raises FoundryError when the text is no run lengths."""
    return int(_from_differences(_read_numbers(text))[1::2].sum())


def _to_differences(runs: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    return numbers


def _from_differences(numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    runs = numbers.copy()
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    return runs


def _write_numbers(numbers: Int[np.ndarray, " n"]) -> str:
    """Signed numbers as characters; all numbers at once, one column per group of five bits."""
    shifts = _BITS * np.arange(_MAX_GROUPS)
    groups_nk = (numbers[:, None] >> shifts) & _LOW_BITS
    # A group is the last one when everything above it only repeats its sign bit.
    rest_nk = numbers[:, None] >> (shifts + _BITS)
    is_last_nk = rest_nk == np.where(groups_nk & _SIGN_BIT, -1, 0)
    last_n = is_last_nk.argmax(axis=1)
    position = np.arange(_MAX_GROUPS)
    coded_nk = groups_nk + _FIRST_CHARACTER + _MORE_BIT * (position < last_n[:, None])
    return coded_nk[position <= last_n[:, None]].astype(np.uint8).tobytes().decode("ascii")


def _read_numbers(text: str) -> Int[np.ndarray, " n"]:
    codes = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not codes.size or codes.min() < 0 or codes.max() >= 2 * _MORE_BIT or codes[-1] & _MORE_BIT:
        raise FoundryError(
            f"mask_rle: '{text[:40]}' is no compressed run lengths: allowed are the characters '0' to 'o', the last "
            "one below 'P'. Write masks with encode_mask or pycocotools."
        )
    is_last = codes & _MORE_BIT == 0
    first = np.concatenate([[0], np.flatnonzero(is_last)[:-1] + 1])
    lengths = np.flatnonzero(is_last) - first + 1
    if lengths.max() > _MAX_GROUPS:
        raise FoundryError(
            f"mask_rle: a number of {lengths.max()} characters; at most {_MAX_GROUPS} are allowed. "
            "Write masks with encode_mask or pycocotools."
        )
    position = np.arange(codes.size) - np.repeat(first, lengths)
    sums = np.add.reduceat((codes & _LOW_BITS) << (_BITS * position), first)
    is_negative = codes[is_last] & _SIGN_BIT != 0
    return np.where(is_negative, sums - (np.int64(1) << (_BITS * lengths)), sums)
