"""How a concept's picture looks to perception: clean views for the bank, and crops as it would cut them from scenes.

A bank is calibrated on such crops: the picture at a size of scenes somewhere on a plain background of some colour,
found by the very search for regions that perception uses. Only the bank's own pictures are used, no scene.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from evaluation.perception.embedded.colors import COLOR_WORDS, PROTOTYPE_RGB, color_indices
from evaluation.perception.embedded.regions import ANALYSIS_SIDE_PX, Region, find_regions, shrink
from training.errors import FoundryError

Picture = UInt8[np.ndarray, "h w channels"]
PAPER_RGB = (255, 255, 255)  # what crops and bank pictures are put on, so that backgrounds do not count
VIEW_SIDES_PX = (20, 26, 34, 44)
SCENE_SIDES_PX = (22, 28, 34, 42)
CUT_OUT_SIDE_PX = 96
_OPAQUE = 64  # alpha from which a pixel is the drawing's


@dataclass(frozen=True)
class View:
    """A crop on white paper, and the shares of :data:`~evaluation.perception.embedded.colors.COLOR_WORDS` among its pixels."""

    image_hwc: UInt8[np.ndarray, "side side2 3"]
    color_shares: Float[np.ndarray, " words"]


def color_shares(rgb_n3: UInt8[np.ndarray, "n 3"]) -> Float[np.ndarray, " words"]:
    """Share of each colour word among some pixels; all 0 for none."""
    counts = np.bincount(color_indices(rgb_n3), minlength=len(COLOR_WORDS))
    return counts / max(1, len(rgb_n3))


def on_paper(
    image_hwc: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "side side 3"]:
    """The masked pixels, cut to their box, centred on a white square with a margin; holes in the mask are kept."""
    from scipy import ndimage

    ys, xs = np.nonzero(mask)
    y1, y2, x1, x2 = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
    filled = ndimage.binary_fill_holes(mask[y1:y2, x1:x2])
    cut = np.where(filled[..., None], image_hwc[y1:y2, x1:x2], np.array(PAPER_RGB, dtype=np.uint8))
    side = int(1.15 * max(cut.shape[:2])) + 1
    paper = np.full((side, side, 3), PAPER_RGB, dtype=np.uint8)
    top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    paper[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return paper


def view_of_region(image_hwc: UInt8[np.ndarray, "h w 3"], region: Region) -> View:
    """A region of an image; a whole photograph as it is, in full sharpness."""
    small = shrink(image_hwc, ANALYSIS_SIDE_PX)
    shares = color_shares(small[region.mask])
    return View(image_hwc if region.mask.all() else on_paper(small, region.mask), shares)


def decode_picture(data: bytes, name: str) -> Picture:
    """A bank picture as RGBA or RGB. Raises FoundryError that names its concept."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(opened.convert("RGBA" if "A" in opened.getbands() else "RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise FoundryError(
            f"bank picture of {name!r}: cannot be decoded ({error}); give PNG bytes"
        ) from error


def clean_view(picture: Picture, side_px: int, name: str) -> View:
    """A picture (RGBA, or RGB on a background of one colour) at a size of scenes, on paper."""
    rgb, opacity = _drawing(picture, side_px, name)
    mask = opacity > _OPAQUE / 255
    if not mask.any():
        raise FoundryError(f"bank picture of {name!r} is empty: no pixel differs from its background")
    paper = np.array(PAPER_RGB)
    blended = np.rint(rgb * opacity[..., None] + paper * (1 - opacity[..., None])).astype(np.uint8)
    return View(on_paper(blended, mask), color_shares(blended[mask]))


def cut_out(picture: Picture, side_px: int = CUT_OUT_SIDE_PX) -> UInt8[np.ndarray, "side side 4"]:
    """A picture as RGBA, larger than scenes show it; an RGB picture without its background of one colour."""
    rgb, opacity = _drawing(picture, side_px, "")
    return np.dstack([np.rint(rgb), np.rint(255 * opacity)]).astype(np.uint8)


def scene_views(picture: Picture, name: str) -> list[View]:
    """The picture as perception cuts it from scenes, at several sizes; fewer where it is not found."""
    views = []
    for side_px in SCENE_SIDES_PX:
        random = np.random.default_rng([side_px, zlib.crc32(name.encode())])
        rgb, opacity = _drawing(picture, side_px, name)
        scene = np.empty((ANALYSIS_SIDE_PX, ANALYSIS_SIDE_PX, 3))
        scene[:] = PROTOTYPE_RGB[random.integers(len(PROTOTYPE_RGB))]
        y, x = random.integers(0, ANALYSIS_SIDE_PX - side_px + 1, 2)
        place = scene[y : y + side_px, x : x + side_px]
        place[:] = rgb * opacity[..., None] + place * (1 - opacity[..., None])
        image = np.rint(scene).astype(np.uint8)
        found = [region for region in find_regions(image).regions if not region.looks_like_text]
        views += [view_of_region(image, region) for region in found[:1]]
    return views


def _drawing(
    picture: Picture, side_px: int, name: str
) -> tuple[Float[np.ndarray, "side side 3"], Float[np.ndarray, "side side"]]:
    """Colours (0..255) and opacity (0..1) of a picture at a size."""
    from PIL import Image

    if min(picture.shape[:2]) < 8:
        raise FoundryError(
            f"bank picture of {name!r} is {picture.shape[1]}x{picture.shape[0]} pixels; at least 8 on a side are needed"
        )
    small = np.asarray(Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.LANCZOS))
    rgb = small[..., :3].astype(np.float64)
    if small.shape[2] == 4:
        return rgb, small[..., 3] / 255
    return rgb, (np.abs(rgb - rgb[0, 0]).max(-1) > 24).astype(np.float64)
