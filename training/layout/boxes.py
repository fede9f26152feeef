"""Boxes as people and files write them, made into the one form that is used inside: normalised xyxy.

``xyxy``: left, top, right, bottom. ``xywh``: left, top, width, height. ``cxcywh``: centre, width, height. Either in
shares of the picture, [0, 1], or in pixels of a picture whose width and height are told. Nothing is guessed: a box that does
not fit what was said is an error that names its entity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from training.errors import FoundryError

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
BOX_FORMATS: tuple[BoxFormat, ...] = get_args(BoxFormat)
BoxNorm = tuple[float, float, float, float]
"""Left, top, right and bottom in shares of the picture, [0, 1]."""
ROUNDING = 1e-6
"""What a box may stand over the edge for rounding; it is cut off."""


def box_xyxy_norm(
    values: Sequence[float],
    entity: str,
    box_format: str = "xyxy",
    size_px: tuple[float, float] | None = None,
) -> BoxNorm:
    """One box, normalised xyxy. ``size_px``: width and height of the picture where ``values`` are pixels.

    Raises FoundryError, naming ``entity`` and the value, for a format that is not known, another number of values than four,
    what is no number, a box that is empty or inverted, or one that stands over the picture's edge.
    """
    told = f"box of '{entity}': {', '.join(f'{value:g}' for value in values)}"
    if box_format not in BOX_FORMATS:
        raise FoundryError(f"{told}: format '{box_format}' found, allowed are {', '.join(BOX_FORMATS)}")
    if len(values) != 4:
        raise FoundryError(f"{told}: {len(values)} values found, a box has four ({_reading(box_format)})")
    if not all(math.isfinite(value) for value in values):
        raise FoundryError(f"{told}: give finite numbers")
    x1, y1, x2, y2 = _corners(values, box_format)
    width, height = size_px or (1.0, 1.0)
    if not (width > 0 and height > 0):
        raise FoundryError(f"{told}: the picture is {width:g} x {height:g} pixels; give the size it has")
    found = (x1 / width, y1 / height, x2 / width, y2 / height)
    if found[2] <= found[0] or found[3] <= found[1]:
        raise FoundryError(
            f"{told}: read as {box_format} it is empty or inverted; it must have left < right and top < bottom. Is it "
            f"another of {', '.join(BOX_FORMATS)}?"
        )
    if min(found) < -ROUNDING or max(found) > 1 + ROUNDING:
        raise FoundryError(f"{told}: {_beyond(box_format, size_px)}")
    left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in found)
    return left, top, right, bottom


def _corners(values: Sequence[float], box_format: str) -> BoxNorm:
    a, b, c, d = (float(value) for value in values)
    if box_format == "xywh":
        return a, b, a + c, b + d
    if box_format == "cxcywh":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def _reading(box_format: str) -> str:
    return {"xyxy": "left, top, right, bottom", "xywh": "left, top, width, height"}.get(
        box_format, "centre x, centre y, width, height"
    )


def _beyond(box_format: str, size_px: tuple[float, float] | None) -> str:
    if size_px is None:
        return (
            f"read as normalised {box_format} it stands over the picture's edge, allowed is [0, 1]. Pixels need the "
            f"picture's size; other formats are {', '.join(kind for kind in BOX_FORMATS if kind != box_format)}"
        )
    return f"read as {box_format} it stands over the edge of {size_px[0]:g} x {size_px[1]:g} pixels; cut it to the picture"
