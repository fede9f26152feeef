"""Foreground regions of an image: whatever differs from the background, in known drawings and connected pieces.

Pixels only; no truth. The steps: fit a background (:mod:`evaluation.perception.embedded.background`), mark what differs
from it, join the letters of a word; find the drawings of a bank where one is given
(:mod:`evaluation.perception.embedded.known_drawings`); of the rest take connected components, join the loose parts of an
object, split pieces with a waist, which knows nothing but "objects on a background". A photograph, whose background is not fitted,
gives one region: the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8

from evaluation.perception.embedded.background import Background, fit_background, largest_difference
from evaluation.perception.embedded.colors import two_colors
from evaluation.perception.embedded.known_drawings import Found, KnownDrawings
from evaluation.perception.embedded.lettering import take_words
from evaluation.perception.embedded.pieces import (
    Piece,
    connected_pieces,
    join_parts,
    split_touching,
    union_of,
)
from evaluation.perception.embedded.shape_and_texture import shape_word, texture_word
from training.errors import FoundryError

ANALYSIS_SIDE_PX = (
    64  # longer side at which regions are sought; boxes are normalised, so nothing is lost to callers
)
_FOREGROUND_DIFFERENCE = 30.0  # largest channel difference (0..255) from which a pixel belongs to an object
_MIN_AREA_FRACTION = 0.008
_MIN_LEFT_OVER_PX = 80  # beside a known drawing, below which what is left is taken for a part of it


@dataclass(frozen=True)
class Region:
    """One foreground region.

    ``box_xyxy_norm`` lies in [0, 1]; ``area_fraction`` is foreground pixels over image pixels in (0, 1];
    ``color`` a colour word, ``second_color`` another or empty; ``shape`` and ``texture`` as measured by
    :mod:`evaluation.perception.embedded.shape_and_texture`; ``looks_like_text`` the outcome of a cheap test on the pixels;
    ``mask`` the region's pixels at analysis size. Where a known drawing was found, ``concept`` is its concept, else
    empty, ``agreement`` the share of its pixels that are the drawing's, in (0, 1], and box and shape are the whole
    drawing's, also where another hides part of it.
    """

    box_xyxy_norm: tuple[float, float, float, float]
    area_fraction: float
    color: str
    second_color: str
    shape: str
    texture: str
    looks_like_text: bool
    mask: Bool[np.ndarray, "h w"]
    concept: str = ""
    agreement: float = 0.0


@dataclass(frozen=True)
class Layout:
    """Regions of one image, largest first, with the background they stand on."""

    background: Background
    regions: tuple[Region, ...]


def shrink(image_hwc: UInt8[np.ndarray, "h w 3"], longer_side_px: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image, reduced by area averaging until its longer side is at most ``longer_side_px`` pixels."""
    height, width = image_hwc.shape[:2]
    if max(height, width) <= longer_side_px:
        return image_hwc
    from PIL import Image

    scale = longer_side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image_hwc).resize(size, Image.Resampling.BOX))


def find_regions(image_hwc: UInt8[np.ndarray, "h w 3"], known: KnownDrawings | None = None) -> Layout:
    """Foreground regions of an RGB image, sorted by area, largest first.

    Args:
        image_hwc: any size from 8 pixels a side.
        known: drawings that are looked for first; without them regions are told by colours and outlines alone.

    Raises:
        FoundryError: an image of less than 8 pixels on a side.
    """
    if min(image_hwc.shape[:2]) < 8:
        raise FoundryError(
            f"image of {image_hwc.shape[1]}x{image_hwc.shape[0]} pixels: regions need at least 8 on each side"
        )
    image = shrink(image_hwc, ANALYSIS_SIDE_PX)
    background = fit_background(image) if min(image.shape[:2]) >= 8 else None
    if background is None or background.kind == "unknown":
        return _whole_image(image, background)
    pieces = connected_pieces(_foreground(image, background))
    words, others = take_words(image, background, pieces)
    found = known.find(image, union_of(others).mask) if known is not None and others else []
    rest, left_over = _without(others, found)
    objects = [half for piece in join_parts(rest) for half in split_touching(image, piece)]
    smallest = _MIN_AREA_FRACTION * image.shape[0] * image.shape[1]
    regions = [_region(image, piece, is_text=True) for piece in words]
    regions += [_known_region(image, drawing) for drawing in found]
    regions += [_region(image, piece, is_text=False) for piece in objects if piece.area >= smallest]
    regions += [_region(image, piece, is_text=False) for piece in left_over]
    regions.sort(key=lambda region: (-region.area_fraction, region.box_xyxy_norm))
    return Layout(background, tuple(regions))


def _without(pieces: list[Piece], found: list[Found]) -> tuple[list[Piece], list[Piece]]:
    """Pieces without a drawing in them, and what is left of the others: unknown things that touch known ones."""
    from scipy import ndimage

    if not found:
        return pieces, []
    whole = np.any([drawing.whole for drawing in found], axis=0)
    untouched = [piece for piece in pieces if not (piece.mask & whole).any()]
    touched = [piece.mask for piece in pieces if (piece.mask & whole).any()]
    if not touched:
        return untouched, []
    # Soft edges belong to the drawing.
    beside = np.any(touched, axis=0) & ~ndimage.binary_dilation(whole, np.ones((3, 3), dtype=bool))
    left_over = join_parts(connected_pieces(np.asarray(ndimage.binary_opening(beside))))
    return untouched, [piece for piece in left_over if piece.area >= _MIN_LEFT_OVER_PX]


def _whole_image(image: UInt8[np.ndarray, "h w 3"], background: Background | None) -> Layout:
    unknown = Background("unknown", (), image.astype(np.float64), 0.0)
    return Layout(background or unknown, (whole_image(image),))


def _foreground(image: UInt8[np.ndarray, "h w 3"], background: Background) -> Bool[np.ndarray, "h w"]:
    from scipy import ndimage

    difference = largest_difference(image.astype(np.float64), background.prediction_hwc)
    mask = difference > _FOREGROUND_DIFFERENCE
    if background.kind in ("two-tone", "checkered"):  # seams between the colours leave hairlines
        mask &= ndimage.binary_opening(mask, np.ones((2, 2), dtype=bool))
    return mask


def whole_image(image: UInt8[np.ndarray, "h w 3"]) -> Region:
    """An image at analysis size as one region."""
    height, width = image.shape[:2]
    return _region(image, Piece(np.ones((height, width), dtype=bool), (0, 0, width, height)), is_text=False)


def _known_region(image: UInt8[np.ndarray, "h w 3"], found: Found) -> Region:
    return replace(
        _region(image, Piece(found.mask, found.box), is_text=False),
        shape=shape_word(found.whole),
        concept=found.concept,
        agreement=found.agreement,
    )


def _region(image: UInt8[np.ndarray, "h w 3"], piece: Piece, *, is_text: bool) -> Region:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = piece.box
    color, second_color = two_colors(image[piece.mask])
    return Region(
        (x1 / width, y1 / height, x2 / width, y2 / height),
        piece.area / (height * width),
        color,
        second_color,
        shape_word(piece.mask),
        texture_word(image, piece.mask),
        is_text,
        piece.mask,
    )
