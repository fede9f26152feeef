"""Descriptions of regions, in the manner of LayoutSAM's: colours, surface, outline and place of an entity, in a sentence.

Every word is measured on pixels; the name is the phrase's. What is measured is the perceived region that the
entity's box matches, or else what stands out in the crop of the box.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from evaluation.boxes import iou_matrix
from evaluation.perception.embedded.colors import COLOR_WORDS
from evaluation.perception.embedded.regions import ANALYSIS_SIDE_PX, find_regions, shrink, whole_image
from evaluation.perception.embedded.wording import place_words, says_color, size_words, with_article

SAME_IOU = 0.9  # a box that overlaps a perceived region so far is that region's
_MIN_CROP_PX = 8


@dataclass(frozen=True)
class Look:
    """What was measured of an entity; ``iou`` is the overlap of the asked box with what was measured, in [0, 1]."""

    color: str
    second_color: str
    shape: str
    texture: str
    text: str
    iou: float


def matching_region(
    box_xyxy_norm: Sequence[float], regions: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any] | None, float]:
    """The perceived region that overlaps a box most, with the IoU; None for none at all."""
    if not regions:
        return None, 0.0
    boxes = np.array([region["box_xyxy_norm"] for region in regions], dtype=np.float64)
    overlaps = iou_matrix(np.array([box_xyxy_norm], dtype=np.float64), boxes)[0]
    best = int(overlaps.argmax())
    return regions[best], float(overlaps[best])


def look_of_region(region: Mapping[str, Any], iou: float) -> Look:
    """What perception measured already."""
    return Look(
        color=str(region["color"]),
        second_color=str(region["second_color"]),
        shape=str(region["shape"]),
        texture=str(region["texture"]),
        text=str(region["text"]),
        iou=iou,
    )


def look_at_crop(image_hwc: UInt8[np.ndarray, "h w 3"], box_xyxy_norm: Sequence[float]) -> Look:
    """Measure the largest thing in the crop of a box; the whole crop where nothing stands out from a background.

    A box of less than 8 pixels a side is widened to that many.
    """
    height, width = image_hwc.shape[:2]
    x1, x2 = _pixels(box_xyxy_norm[0], box_xyxy_norm[2], width)
    y1, y2 = _pixels(box_xyxy_norm[1], box_xyxy_norm[3], height)
    crop = image_hwc[y1:y2, x1:x2]
    found = find_regions(crop).regions if min(crop.shape[:2]) >= _MIN_CROP_PX else ()
    region = found[0] if found else whole_image(shrink(crop, ANALYSIS_SIDE_PX))
    left, top, right, bottom = region.box_xyxy_norm
    return Look(
        region.color, region.second_color, region.shape, region.texture, "", (right - left) * (bottom - top)
    )


def _pixels(low: float, high: float, side_px: int) -> tuple[int, int]:
    """First pixel and the one after the last of a normalised interval, at least 8 where the image has them."""
    first, last = int(np.floor(low * side_px)), int(np.ceil(high * side_px))
    missing = max(0, min(_MIN_CROP_PX, side_px) - (last - first))
    first = min(max(0, first - missing // 2), side_px - 1)
    last = min(side_px, max(last + missing - missing // 2, first + min(_MIN_CROP_PX, side_px)))
    return max(0, min(first, last - min(_MIN_CROP_PX, side_px))), last


def describe(phrase: str, box_xyxy_norm: Sequence[float], look: Look) -> str:
    """One sentence, such as "a smooth red apple with a round outline at the top left, large"."""
    place, size = place_words(box_xyxy_norm), size_words(box_xyxy_norm)
    if look.text:
        return f'the word "{look.text}" in {look.color} letters {place}, {size}'
    thing = _bare(phrase)
    colors = _colors(look, thing)
    surface = "" if look.texture == "detailed" else look.texture
    noun = with_article(" ".join(word for word in (surface, colors, thing) if word))
    details = (
        f"{_outline(look.shape)} and a detailed surface"
        if look.texture == "detailed"
        else _outline(look.shape)
    )
    return f"{noun} with {details} {place}, {size}"


def _bare(phrase: str) -> str:
    """A phrase without article and without leading colours, which are measured anew."""
    words = re.sub(r"\s+", " ", phrase).strip().split(" ")
    while len(words) > 1 and words[0].lower() in ("a", "an", "the", "and", *COLOR_WORDS, "grey"):
        words = words[1:]
    return " ".join(words)


def _colors(look: Look, thing: str) -> str:
    """The measured colours, but for those that the name says."""
    if says_color(thing):
        return ""
    return f"{look.color} and {look.second_color}" if look.second_color else look.color


def _outline(shape: str) -> str:
    return f"{with_article(shape)} outline"
