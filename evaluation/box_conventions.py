"""Box conventions, converted at the edge. Inside, boxes are normalised xyxy: x1 < x2 and y1 < y2 in [0, 1].

================ ================================================= ====================================
name             values                                            used by
================ ================================================= ====================================
``xyxy_norm``    x1, y1, x2, y2 over width and height              us; LayoutSAM's models, after division
``xyxy_px``      x1, y1, x2, y2 in pixels                          LayoutSAM, LayoutSAM-Eval, detectors
``xywh_px``      x1, y1, width, height in pixels                   COCO
``cxcywh_norm``  centre x, centre y, width, height over the image  YOLO, DETR
``bins``         x1, y1, x2, y2 as integers 0 .. 999               Florence-2's location tokens
================ ================================================= ====================================

Rounding: pixels are written with two decimals, whole numbers without any; bins are ``floor(1000 v)`` and come back at
the bin's centre, as Florence-2's own quantizer has it; LayoutSAM's models round normalised values to three decimals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from training.errors import FoundryError

Box = tuple[float, float, float, float]
Convention = Literal["xyxy_norm", "xyxy_px", "xywh_px", "cxcywh_norm", "bins"]
NUM_BINS = 1000
PIXEL_DECIMALS = 2
EDGE_TOLERANCE = 1e-6
"""Values outside [0, 1] by at most this are rounding and are put on the edge."""


def check_box(box_xyxy_norm: Sequence[float], image: str, number: int | str) -> Box:
    """The box as a tuple, rounding at the edges mended.

    Raises FoundryError that names image and box for a box that does not hold four finite numbers, has its corners
    out of order, has no area, or leaves the image.
    """
    values = _four_numbers(box_xyxy_norm, image, number)
    x1, y1, x2, y2 = (
        min(max(v, 0.0), 1.0) if -EDGE_TOLERANCE <= v <= 1 + EDGE_TOLERANCE else v for v in values
    )
    if not all(0.0 <= value <= 1.0 for value in (x1, y1, x2, y2)):
        raise _bad(
            image, number, list(values), "leaves the image; allowed is [0, 1] after division by its size"
        )
    if not (x1 < x2 and y1 < y2):
        raise _bad(
            image,
            number,
            list(values),
            "has no area or its corners out of order; allowed is x1 < x2, y1 < y2",
        )
    return x1, y1, x2, y2


def to_xyxy_px(box: Box, width: int, height: int) -> Box:
    """Corners in pixels, two decimals."""
    x1, y1, x2, y2 = box
    return _rounded(x1 * width), _rounded(y1 * height), _rounded(x2 * width), _rounded(y2 * height)


def from_xyxy_px(
    values: Sequence[float], width: int, height: int, image: str, number: int | str, clip_px: float = 1.0
) -> Box:
    """Normalised box of corners in pixels; a corner outside by at most ``clip_px`` pixels is put on the edge.

    Published annotations lie outside by a pixel here and there; more than that is another image's box.
    Raises as :func:`check_box` does, and for an image without a size.
    """
    _check_size(width, height, image)
    x1, y1, x2, y2 = _four_numbers(values, image, number)
    return check_box(
        (
            _near(x1, width, clip_px),
            _near(y1, height, clip_px),
            _near(x2, width, clip_px),
            _near(y2, height, clip_px),
        ),
        image,
        number,
    )


def to_xywh_px(box: Box, width: int, height: int) -> Box:
    """Corner and size in pixels, two decimals: COCO's ``bbox``. Corners are rounded, so the far one stays in place."""
    x1, y1, x2, y2 = to_xyxy_px(box, width, height)
    return x1, y1, _rounded(x2 - x1), _rounded(y2 - y1)


def from_xywh_px(values: Sequence[float], width: int, height: int, image: str, number: int | str) -> Box:
    """Normalised box of COCO's ``bbox``. Raises as :func:`from_xyxy_px` does."""
    x, y, box_width, box_height = _four_numbers(values, image, number)
    return from_xyxy_px((x, y, x + box_width, y + box_height), width, height, image, number)


def to_cxcywh_norm(box: Box) -> Box:
    """Centre and size, each over the image's width or height."""
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def from_cxcywh_norm(values: Sequence[float], image: str, number: int | str) -> Box:
    """Normalised box of centre and size. Raises as :func:`check_box` does."""
    x, y, width, height = _four_numbers(values, image, number)
    return check_box((x - width / 2, y - height / 2, x + width / 2, y + height / 2), image, number)


def to_bins(box: Box) -> tuple[int, int, int, int]:
    """Florence-2's location bins 0 .. 999: ``<loc_x1><loc_y1><loc_x2><loc_y2>``."""
    x1, y1, x2, y2 = (min(math.floor(value * NUM_BINS), NUM_BINS - 1) for value in box)
    return x1, y1, x2, y2


def from_bins(values: Sequence[float], image: str, number: int | str) -> Box:
    """Normalised box of location bins, each at its centre. A box within one bin gets that bin's width.

    Raises FoundryError for what is no whole number of 0 .. 999, or for corners out of order.
    """
    bins = _four_numbers(values, image, number)
    if not all(value == int(value) and 0 <= value < NUM_BINS for value in bins):
        raise _bad(
            image, number, list(bins), f"is no location bins; allowed are whole numbers 0 to {NUM_BINS - 1}"
        )
    x1, y1, x2, y2 = ((value + 0.5) / NUM_BINS for value in bins)
    half = 0.5 / NUM_BINS
    if x1 == x2:
        x1, x2 = x1 - half, x2 + half
    if y1 == y2:
        y1, y2 = y1 - half, y2 + half
    return check_box((x1, y1, x2, y2), image, number)


def to_box(
    values: Sequence[float],
    convention: Convention,
    width: int,
    height: int,
    image: str = "",
    number: int | str = 0,
) -> Box:
    """Normalised box of any convention by its name, for settings in which a person names one.

    Raises FoundryError for an unknown convention, and as the function of that convention does.
    """
    readers: dict[str, Callable[[], Box]] = {
        "xyxy_norm": lambda: check_box(values, image, number),
        "xyxy_px": lambda: from_xyxy_px(values, width, height, image, number),
        "xywh_px": lambda: from_xywh_px(values, width, height, image, number),
        "cxcywh_norm": lambda: from_cxcywh_norm(values, image, number),
        "bins": lambda: from_bins(values, image, number),
    }
    if convention not in readers:
        raise FoundryError(
            f"box convention is '{convention}'; allowed are {', '.join(readers)}. Use one of them."
        )
    return readers[convention]()


def round_for_layoutsam(box: Box) -> Box:
    """What LayoutSAM's models see: three decimals."""
    x1, y1, x2, y2 = (round(value, 3) for value in box)
    return x1, y1, x2, y2


def plain_numbers(values: Sequence[float]) -> list[int | float]:
    """Whole numbers without a decimal point, as annotations are written."""
    return [int(value) if value == int(value) else value for value in values]


def _near(value: float, size: int, clip_px: float) -> float:
    if -clip_px <= value < 0:
        return 0.0
    return 1.0 if size < value <= size + clip_px else value / size


def _rounded(value: float) -> float:
    return round(value, PIXEL_DECIMALS)


def _check_size(width: int, height: int, image: str) -> None:
    if width < 1 or height < 1:
        raise FoundryError(
            f"image {image}: is {width} x {height} pixels; at least 1 x 1 is needed to place boxes"
        )


def _four_numbers(values: Sequence[float], image: str, number: int | str) -> Box:
    try:
        x1, y1, x2, y2 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise _bad(image, number, values, "does not hold four numbers") from error
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        raise _bad(image, number, values, "holds a number that is not finite")
    return x1, y1, x2, y2


def _bad(image: str, number: int | str, values: object, what: str) -> FoundryError:
    return FoundryError(
        f"image {image or '(unnamed)'}, box {number}: {str(values)[:120]} {what}. Correct the box or leave it out."
    )
