"""Contact sheets: pictures where people look, with boxes, names and captions. Captions are untrusted text."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from training.errors import FoundryError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

PAPER, INK, SHADOW = (255, 255, 255), (40, 44, 52), (120, 126, 136)
BOX_COLORS = ((230, 25, 75), (0, 110, 220), (0, 140, 70), (200, 80, 200), (220, 120, 0), (0, 140, 150))
CAPTION_LINES = 3
GAP = 8
DASH, DASH_GAP = 5, 3


@dataclass(frozen=True)
class NamedBox:
    """A box to draw on a picture: normalised x1, y1, x2, y2 in [0, 1] and a name (may be empty).

    One with a ``dropped`` reason is drawn dashed, the reason beside its name.
    """

    name: str
    box_xyxy_norm: tuple[float, float, float, float]
    dropped: str = ""


def contact_sheet(
    images: Sequence[UInt8[ndarray, "_ _ 3"]],
    captions: Sequence[str] | None = None,
    boxes: Sequence[Sequence[NamedBox]] | None = None,
    *,
    columns: int = 6,
    tile: int = 128,
) -> Image:
    """Lay pictures out in rows of ``columns`` square tiles of ``tile`` pixels, each with its caption below.

    Small pictures are enlarged without smoothing, so that what the model made is what is seen.
    Raises FoundryError for no pictures, or where captions or boxes do not match them in number.
    """
    from PIL import Image, ImageDraw

    _check(images, captions, boxes, columns, tile)
    columns = min(columns, len(images))
    text_height = 0 if captions is None else CAPTION_LINES * 13 + 4
    rows = -(-len(images) // columns)
    cell_width, cell_height = tile + GAP, tile + text_height + GAP
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        left, top = GAP + index % columns * cell_width, GAP + index // columns * cell_height
        picture, frame = _fit(image, tile)
        sheet.paste(picture, (left + frame[0], top + frame[1]))
        if boxes is not None:
            _draw_boxes(draw, boxes[index], (left + frame[0], top + frame[1], *frame[2:]))
        if captions is not None:
            _draw_caption(draw, captions[index], left, top + tile + 2, tile)
    return sheet


def inline_jpeg(image: Image, max_bytes: int = 120_000) -> bytes:
    """JPEG of at most ``max_bytes`` for a data URI: quality is lowered first, then the size is halved.

    Raises FoundryError when even a thumbnail does not fit.
    """
    from PIL import Image as Pillow

    picture = image.convert("RGB")
    while min(picture.size) >= 8:
        for quality in (88, 75, 60, 45):
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes:
                return buffer.getvalue()
        half = (max(1, picture.width // 2), max(1, picture.height // 2))
        picture = picture.resize(half, Pillow.Resampling.BOX)
    raise FoundryError(
        f"inline picture: {image.width} x {image.height} pixels do not fit in {max_bytes} bytes; "
        "a thumbnail takes about 1,000; raise max_bytes"
    )


def safe_text(text: str, max_characters: int) -> str:
    """One printable line of at most ``max_characters``: no control or direction marks, an ellipsis at the cut."""
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 8 * max_characters])
    line = " ".join(kept.split())
    return line if len(line) <= max_characters else line[: max_characters - 1].rstrip() + "…"


def _check(
    images: Sequence[UInt8[ndarray, "_ _ 3"]],
    captions: Sequence[str] | None,
    boxes: Sequence[Sequence[NamedBox]] | None,
    columns: int,
    tile: int,
) -> None:
    if not images:
        raise FoundryError(
            "contact sheet: found no pictures; at least one is needed; check what was selected"
        )
    for name, values in (("captions", captions), ("boxes", boxes)):
        if values is not None and len(values) != len(images):
            raise FoundryError(
                f"contact sheet: found {len(values)} {name} for {len(images)} pictures; give one per picture"
            )
    if columns < 1 or tile < 16:
        raise FoundryError(f"contact sheet: columns {columns}, tile {tile}; at least 1 column and 16 pixels")


def _fit(image: UInt8[ndarray, "h w 3"], tile: int) -> tuple[Image, tuple[int, int, int, int]]:
    """Picture scaled into the tile, and its place there: left, top, width, height in pixels."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    scale = tile / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = Pillow.Resampling.NEAREST if scale >= 1 else Pillow.Resampling.BOX
    picture = Pillow.fromarray(np.ascontiguousarray(image)).resize(size, way)
    return picture, ((tile - size[0]) // 2, (tile - size[1]) // 2, *size)


def _draw_boxes(draw: ImageDraw, boxes: Sequence[NamedBox], frame: tuple[int, int, int, int]) -> None:
    """Boxes, the dropped ones first, then their names, so that no box crosses one. ``frame``: left, top, size."""
    colored = [(box, BOX_COLORS[number % len(BOX_COLORS)]) for number, box in enumerate(boxes)]
    colored.sort(key=lambda entry: not entry[0].dropped)
    placed = [(box, color, _corners(box, frame)) for box, color in colored]
    for box, color, corners in placed:
        if box.dropped:
            _dashed_rectangle(draw, corners, color)
        else:
            draw.rectangle(corners, outline=color, width=2)
    taken: list[tuple[float, float, float, float]] = []
    for box, color, corners in reversed(placed):  # what was kept gets the better places
        _draw_name(draw, box, color, corners, frame, taken)


def _corners(box: NamedBox, frame: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    """Corners in pixels of the sheet; numbers that are no place are put in order and inside."""
    x1, y1, x2, y2 = np.clip(np.nan_to_num(np.array(box.box_xyxy_norm, dtype=float)), 0.0, 1.0)
    (x1, x2), (y1, y2) = sorted((x1, x2)), sorted((y1, y2))
    x, y, width, height = frame[0], frame[1], frame[2] - 1, frame[3] - 1
    return float(x + x1 * width), float(y + y1 * height), float(x + x2 * width), float(y + y2 * height)


def _dashed_rectangle(
    draw: ImageDraw, corners: tuple[float, float, float, float], color: tuple[int, int, int]
) -> None:
    x1, y1, x2, y2 = (round(value) for value in corners)
    draw.rectangle(
        (x1, y1, x2, y2), outline=PAPER
    )  # between the dashes, so that they show on their own colour
    for start in range(x1, x2 + 1, DASH + DASH_GAP):
        for y in (y1, y2):
            draw.line((start, y, min(start + DASH - 1, x2), y), fill=color)
    for start in range(y1, y2 + 1, DASH + DASH_GAP):
        for x in (x1, x2):
            draw.line((x, start, x, min(start + DASH - 1, y2)), fill=color)


def _draw_name(
    draw: ImageDraw,
    box: NamedBox,
    color: tuple[int, int, int],
    corners: tuple[float, float, float, float],
    frame: tuple[int, int, int, int],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Name at the box's edge, inside the picture, at the first place where no other name stands."""
    name = f"{safe_text(box.name, 14)}: {box.dropped.replace('_', ' ')}" if box.dropped else box.name
    name = safe_text(name, 26 if box.dropped else 18)
    if not name:
        return
    font = _font(10)
    left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
    width, height = right - left + 3, bottom - top + 3
    x = float(max(frame[0], min(corners[0] + 1, frame[0] + frame[2] - width)))
    lowest = float(frame[1] + frame[3] - height)
    wanted = (corners[1] - height, corners[1] + 1, corners[3] - height, corners[3] + 1)
    places = [min(max(y, float(frame[1])), lowest) for y in wanted]
    spots = [(x, y, x + width, y + height) for y in places]
    spot = next((spot for spot in spots if not any(_overlap(spot, other) for other in taken)), spots[0])
    taken.append(spot)
    edge = (spot[0], spot[1], spot[2] - 1, spot[3] - 1)
    ink, ground = (color, PAPER) if box.dropped else (PAPER, color)
    draw.rectangle(edge, fill=ground)
    draw.text((spot[0] + 1 - left, spot[1] + 1 - top), name, fill=ink, font=font)


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _draw_caption(draw: ImageDraw, caption: str, left: int, top: int, width: int) -> None:
    font = _font(11)
    lines = _wrap(draw, safe_text(caption, 160), width, font)
    for number, line in enumerate(lines):
        draw.text((left, top + 13 * number), line, fill=INK, font=font)


def _wrap(draw: ImageDraw, text: str, width: int, font: FreeTypeFont | ImageFont) -> list[str]:
    """Break into at most CAPTION_LINES lines of ``width`` pixels; what is left over becomes an ellipsis."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < CAPTION_LINES:
        line = words.pop(0)
        while words and draw.textlength(f"{line} {words[0]}", font=font) <= width:
            line = f"{line} {words.pop(0)}"
        if words and len(lines) == CAPTION_LINES - 1:
            line += "…"
        while draw.textlength(line, font=font) > width and len(line) > 2:
            line = line[:-2] + "…"
        lines.append(line)
    return lines


@cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
