"""The strokes of a scene: backgrounds, cut-outs pasted back to front, and a short word."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from assets.corpus import art
from assets.corpus.fonts import font_path
from assets.corpus.world import WORD_CAP_HEIGHT_PX, BackgroundKind, World
from training.errors import FoundryError

Rgb = tuple[int, int, int]
BoxPx = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels; x2 and y2 are exclusive."""

_FONT_SIZE_PX = 16  # gives capitals of WORD_CAP_HEIGHT_PX in DejaVu Sans Bold; a test measures it
_CONTRAST_RGB_DISTANCE = 90.0
_OPAQUE = 128


@dataclass(frozen=True)
class Background:
    """Kind and colour words of a background; ``horizontal`` says which way a gradient or split runs."""

    kind: BackgroundKind
    colors: tuple[str, ...]
    horizontal: bool = False
    split: float = 0.5
    cell_px: int = 16

    @property
    def description(self) -> str:
        """Such as ``plain blue`` or ``checker white red``."""
        return " ".join((self.kind, *self.colors))


@dataclass(frozen=True)
class Placement:
    """One cut-out and where its visible extent begins, in pixels from the top left."""

    sprite: UInt8[np.ndarray, "h w 4"]
    left: int
    top: int

    @property
    def box_px(self) -> BoxPx:
        """Visible extent before anything occludes it."""
        height, width = self.sprite.shape[:2]
        return self.left, self.top, self.left + width, self.top + height

    @property
    def opaque(self) -> Bool[np.ndarray, "h w"]:
        """Pixels that hide what is behind them: alpha of one half or more."""
        return np.asarray(self.sprite[..., 3] >= _OPAQUE)


@lru_cache(maxsize=8192)
def sprite(picture: str, size_px: int) -> UInt8[np.ndarray, "h w 4"]:
    """The drawing at ``size_px``, cropped to what is visible (alpha of one half or more). Read-only."""
    rgba = art.render(picture, size_px)
    rows, columns = np.nonzero(rgba[..., 3] >= _OPAQUE)
    cropped = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    cropped.setflags(write=False)
    return cropped


@lru_cache(maxsize=8192)
def contrast(picture: str, rgb: Rgb) -> float:
    """Share of a drawing's visible pixels that stand out from a colour, in [0, 1]."""
    rgba = sprite(picture, 32)
    visible = rgba[rgba[..., 3] >= _OPAQUE][:, :3].astype(np.float32)
    distance = np.linalg.norm(visible - np.asarray(rgb, np.float32), axis=1)
    return float((distance > _CONTRAST_RGB_DISTANCE).mean())


def paint_background(
    world: World, background: Background, shift_rgb: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "s s 3"]:
    """The background as float RGB in [0, 255]; ``shift_rgb`` moves each of its colours a little."""
    size = world.image_size_px
    nominal = np.asarray([world.rgb(color) for color in background.colors], np.float64)
    first, *rest = np.clip(nominal + shift_rgb[: len(nominal)], 0, 255)
    second = rest[0] if rest else first
    along = (np.arange(size) + 0.5) / size
    if background.kind == "plain":
        share = np.zeros((size, size))
    elif background.kind == "gradient":
        share = np.tile(along, (size, 1))
    elif background.kind == "two-tone":
        share = np.tile((along > background.split).astype(np.float64), (size, 1))
    else:
        cell = np.arange(size) // background.cell_px
        share = ((cell[:, None] + cell[None, :]) % 2).astype(np.float64)
    if not background.horizontal:
        share = share.T
    return first + share[..., None] * (second - first)


def paste(canvas: Float[np.ndarray, "s s 3"], placement: Placement) -> None:
    """Blend a cut-out over the canvas, in place."""
    x1, y1, x2, y2 = placement.box_px
    alpha = placement.sprite[..., 3:].astype(np.float64) / 255
    patch = canvas[y1:y2, x1:x2]
    patch += alpha * (placement.sprite[..., :3] - patch)


def visible_masks(placements: list[Placement], size_px: int) -> Bool[np.ndarray, "n s s"]:
    """Of each cut-out, back to front, the pixels that nothing in front covers. A pixel belongs to one at most."""
    masks: Bool[np.ndarray, "n s s"] = np.zeros((len(placements), size_px, size_px), bool)
    for index, placement in enumerate(placements):
        x1, y1, x2, y2 = placement.box_px
        masks[:index, y1:y2, x1:x2] &= ~placement.opaque
        masks[index, y1:y2, x1:x2] = placement.opaque
    return masks


def visible_fractions(placements: list[Placement], size_px: int) -> list[float]:
    """Of each cut-out, back to front, the share of its pixels that nothing in front covers."""
    masks = visible_masks(placements, size_px)
    return [
        float(mask.sum() / placement.opaque.sum()) for mask, placement in zip(masks, placements, strict=True)
    ]


@cache
def word_mask(word: str) -> UInt8[np.ndarray, "h w"]:
    """The word's ink as coverage in [0, 255], cropped to the ink. Set in DejaVu Sans Bold, 12-pixel capitals."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_path("DejaVuSans-Bold")), _FONT_SIZE_PX)
    canvas = Image.new("L", (len(word) * _FONT_SIZE_PX + 8, 2 * _FONT_SIZE_PX), 0)
    ImageDraw.Draw(canvas).text((4, 4), word, fill=255, font=font)
    return np.asarray(canvas.crop(canvas.getbbox()))


def draw_word(canvas: Float[np.ndarray, "s s 3"], word: str, left: int, top: int) -> BoxPx:
    """Write the word in black or white, whichever stands out more, in place. Returns the box of its ink."""
    mask = word_mask(word)
    height, width = mask.shape
    patch = canvas[top : top + height, left : left + width]
    luma = float((patch @ np.array([0.299, 0.587, 0.114])).mean())
    ink = 0.0 if luma > 128 else 255.0
    patch += (mask[..., None] / 255.0) * (ink - patch)
    return left, top, left + width, top + height


def check_words_fit(world: World) -> None:
    """Raise FoundryError for a word that is too wide or too high for the world's scenes."""
    for word in world.words:
        height, width = word_mask(word).shape
        if width > world.image_size_px - 2 or height > WORD_CAP_HEIGHT_PX + 2:
            raise FoundryError(
                f"words: {word!r} is {width} x {height} pixels, a scene has room for "
                f"{world.image_size_px - 2} x {WORD_CAP_HEIGHT_PX + 2}; choose a shorter word."
            )
