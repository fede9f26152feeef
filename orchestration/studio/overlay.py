"""Boxes as SVG, laid over a canvas or a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from evaluation.plots.contact_sheets import BOX_COLORS, safe_text
from training.layout.boxes import BoxNorm
from training.layout.entities import Entity

SIDE = 1000
"""Of the SVG's own coordinates, over whatever size the picture is shown in."""
GRIP_SIDE, LINE, THICK_LINE, NAME_SIZE, RESULT_NAME_SIZE = 22, 6, 9, 30, 54
TINT = 0.1
RIM = f'fill="none" stroke="white" stroke-width="{2 * LINE}"'
LONGEST_NAME, SHORTEST_NAME = 32, 6
WIDTH_OF_LETTER = 0.55
"""On average, of the letter's height."""


def color_of(number: int) -> str:
    """The colour of a box by its number, as on sheets of pictures."""
    red, green, blue = BOX_COLORS[number % len(BOX_COLORS)]
    return f"#{red:02x}{green:02x}{blue:02x}"


def overlay(
    boxes: Sequence[Entity],
    selected: int | None = None,
    preview: BoxNorm | None = None,
    *,
    is_result: bool = False,
) -> str:
    """An SVG, a square of :data:`SIDE` a side: boxes with their phrases, grips on the selected one, the one being drawn dashed.

    ``is_result``: over a picture, which is shown smaller than the canvas and is not tinted. Phrases are escaped.
    """
    name_size = RESULT_NAME_SIZE if is_result else NAME_SIZE
    # On a picture a white rim keeps a box apart from what has its colour.
    parts = [_rectangle(entity.box_xyxy_norm, RIM) for entity in boxes if is_result]
    parts += [_box(number, entity, selected == number, not is_result) for number, entity in enumerate(boxes)]
    parts += [_name(number, entity, name_size) for number, entity in enumerate(boxes)]
    if selected is not None:
        parts += _grips(boxes[selected].box_xyxy_norm, color_of(selected))
    if preview is not None:
        parts.append(
            _rectangle(preview, f'fill="none" stroke="#444" stroke-width="{LINE}" stroke-dasharray="16 10"')
        )
    # An SVG in the SVG: the outer one has the picture's pixels as coordinates.
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" width="100%" height="100%" preserveAspectRatio="none">{"".join(parts)}</svg>'


def _box(number: int, entity: Entity, is_selected: bool, is_tinted: bool) -> str:
    color, line = color_of(number), THICK_LINE if is_selected else LINE
    fill = f'fill="{color}" fill-opacity="{TINT}"' if is_tinted else 'fill="none"'
    return _rectangle(entity.box_xyxy_norm, f'{fill} stroke="{color}" stroke-width="{line}"')


def _name(number: int, entity: Entity, size: int) -> str:
    left, top, _, _ = entity.box_xyxy_norm
    room = int((1 - left) * SIDE / (size * WIDTH_OF_LETTER))
    told = safe_text(entity.phrase, max(SHORTEST_NAME, min(room, LONGEST_NAME))) or f"box {number + 1}"
    # A white rim keeps the name readable on any picture.
    style = f'font-size="{size}" fill="{color_of(number)}" stroke="white" stroke-width="{size / 5:g}" paint-order="stroke"'
    place = f'x="{left * SIDE + 10:g}" y="{top * SIDE + size + 4:g}"'
    return f'<text {place} {style} font-family="sans-serif" font-weight="600">{escape(told)}</text>'


def _grips(box: BoxNorm, color: str) -> Iterator[str]:
    half = GRIP_SIDE / 2
    for x in (box[0], box[2]):
        for y in (box[1], box[3]):
            place = (
                f'x="{x * SIDE - half:g}" y="{y * SIDE - half:g}" width="{GRIP_SIDE}" height="{GRIP_SIDE}"'
            )
            yield f'<rect {place} fill="white" stroke="{color}" stroke-width="{LINE}"/>'


def _rectangle(box: BoxNorm, style: str) -> str:
    left, top, right, bottom = (value * SIDE for value in box)
    return f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" {style}/>'
