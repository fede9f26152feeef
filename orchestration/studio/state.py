"""What a page of the studio holds: the layout that is being drawn, and the settings. It knows nothing of browsers.

Places are shares of the canvas, (0, 0) its upper left corner; a mouse may leave it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from assets.layout.prompted import Asked
from training.errors import FoundryError
from training.layout.boxes import BoxNorm
from training.layout.entities import Entity, Layout, entity_of_text, parse_layout

SMALLEST_SIDE = 0.02
"""Of a box that is drawn by mouse, in shares of the canvas: what is smaller was a click."""
GRIP = 0.02
"""How far from a corner of the selected box the mouse still takes hold of it, in shares of the canvas."""
DIGITS = 3
MOST_IMAGES, MOST_STEPS = 16, 1000
Point = tuple[float, float]


@dataclass(frozen=True)
class Drag:
    """A mouse button held down since ``start``.

    ``number`` is the box that it changes, None where a new one is drawn; ``anchor`` the corner that stays, None where the whole
    box moves.
    """

    start: Point
    number: int | None = None
    anchor: Point | None = None


class Board:
    """A layout in the making: its phrases may be empty for a while. ``selected`` is the number of a box, or None."""

    def __init__(self) -> None:
        self.caption = ""
        self.boxes: list[Entity] = []
        self.selected: int | None = None
        self._drag: Drag | None = None
        self._before: BoxNorm | None = None
        self._preview: BoxNorm | None = None

    @property
    def preview(self) -> BoxNorm | None:
        """The box that is being drawn, which none of ``boxes`` is yet."""
        return self._preview

    @property
    def is_dragging(self) -> bool:
        """Whether the mouse button is down."""
        return self._drag is not None

    def press(self, point: Point) -> None:
        """The mouse button goes down: at a corner of the selected box, in it, or elsewhere, where a new box begins."""
        self._drag = self._hold(inside(point))
        number = self._drag.number
        self._before = None if number is None else self.boxes[number].box_xyxy_norm

    def move(self, point: Point) -> None:
        """The mouse moves; without a button held down nothing happens."""
        if self._drag is None:
            return
        number, anchor = self._drag.number, self._drag.anchor
        if number is None:
            self._preview = spanned(self._drag.start, point)
        elif anchor is not None:
            self._place(number, spanned(anchor, point))
        elif self._before is not None:
            self._place(number, shifted(self._before, self._drag.start, point))

    def release(self, point: Point) -> bool:
        """The mouse button comes up; returns whether a new box is there.

        A drag too small for a box selects the smallest box under it, or none.
        """
        drag = self._drag
        if drag is None:
            return False
        self.move(point)
        drawn, self._drag, self._preview = self._preview, None, None
        if drag.number is not None:
            return False
        if drawn is None:
            self.selected = self.under(drag.start)
            return False
        self.add(Entity("", drawn))
        return True

    def cancel(self) -> None:
        """The drag ends as if it had not been."""
        if self._drag is not None and self._drag.number is not None:
            self._place(self._drag.number, self._before)
        self._drag = self._preview = None

    def add(self, entity: Entity) -> None:
        """A box more, which is selected."""
        self.boxes.append(entity)
        self.selected = len(self.boxes) - 1

    def add_text(self, text: str) -> None:
        """A box more, as the command line has it: ``a red car: 0.1,0.5,0.4,0.9``. Raises FoundryError for another form."""
        self.add(entity_of_text(text))

    def rename(self, number: int, phrase: str) -> None:
        """Another phrase for a box."""
        self.boxes[number] = replace(self.boxes[number], phrase=phrase)

    def remove(self, number: int) -> None:
        """A box less."""
        self.cancel()
        del self.boxes[number]
        self.selected = None

    def under(self, point: Point) -> int | None:
        """The smallest box at a place, the later of two alike; None where there is none."""
        there = [
            (_area(entity.box_xyxy_norm), -number)
            for number, entity in enumerate(self.boxes)
            if _holds(entity.box_xyxy_norm, point)
        ]
        return -min(there)[1] if there else None

    def load(self, content: bytes, name: str) -> None:
        """Take over a layout file. Raises FoundryError, naming file and field, and keeps what there was."""
        layout = parse_layout(content, name)
        self.cancel()
        self.caption, self.boxes, self.selected = layout.caption, list(layout.entities), None

    def layout(self, max_boxes: int | None = None) -> Layout:
        """The layout as it is drawn and saved.

        Raises FoundryError for a box without a phrase and, where ``max_boxes`` is told, for more boxes than that.
        """
        for number, entity in enumerate(self.boxes, 1):
            if not entity.phrase.strip():
                raise FoundryError(f"box {number} has no phrase; say what should stand in it, or delete it")
        layout = Layout(self.caption.strip(), tuple(_stripped(entity) for entity in self.boxes))
        if max_boxes is not None:
            layout.require_at_most(max_boxes)
        return layout

    def file(self) -> bytes:
        """The layout as a file that ``foundry layout --layout`` reads. Raises FoundryError as :meth:`layout` does."""
        return (json.dumps(self.layout().as_json(), indent=1, ensure_ascii=False) + "\n").encode("utf-8")

    def _hold(self, point: Point) -> Drag:
        if self.selected is None:
            return Drag(point)
        box = self.boxes[self.selected].box_xyxy_norm
        corners = [(x, y) for x in (0, 2) for y in (1, 3)]
        x, y = min(corners, key=lambda corner: math.dist((box[corner[0]], box[corner[1]]), point))
        if math.dist((box[x], box[y]), point) <= GRIP:
            return Drag(point, self.selected, anchor=(box[2 - x], box[4 - y]))
        return Drag(point, self.selected) if _holds(box, point) else Drag(point)

    def _place(self, number: int, box: BoxNorm | None) -> None:
        if box is not None:
            self.boxes[number] = replace(self.boxes[number], box_xyxy_norm=box)


def inside(point: Point) -> Point:
    """The nearest place of the canvas."""
    x, y = (min(max(value, 0.0), 1.0) for value in point)
    return x, y


def spanned(first: Point, second: Point) -> BoxNorm | None:
    """The box between two corners in any order, cut to the canvas; None where a side is under :data:`SMALLEST_SIDE`."""
    (x1, y1), (x2, y2) = inside(first), inside(second)
    (left, right), (top, bottom) = sorted((x1, x2)), sorted((y1, y2))
    if right - left < SMALLEST_SIDE or bottom - top < SMALLEST_SIDE:
        return None
    return _rounded((left, top, right, bottom))


def shifted(box: BoxNorm, start: Point, end: Point) -> BoxNorm:
    """The box moved as far as the mouse, but not over the edge; its size stays."""
    left, top, right, bottom = box
    by_x = min(max(end[0] - start[0], -left), 1 - right)
    by_y = min(max(end[1] - start[1], -top), 1 - bottom)
    x, y = round(left + by_x, DIGITS), round(top + by_y, DIGITS)
    # More digits than a mouse has, for a box from a file may be thinner than those can say.
    far_x, far_y = round(x + (right - left), 2 * DIGITS), round(y + (bottom - top), 2 * DIGITS)
    return x, y, min(far_x, 1.0), min(far_y, 1.0)


def asked_of(given: Mapping[str, float | None]) -> Asked:
    """Settings as they stand in the page's fields, None for an empty one. Raises FoundryError naming what is out of range."""
    found: dict[str, float] = {}
    for name, (least, most) in RANGES.items():
        value = given[name]
        if value is None or not least <= value <= most:
            told = "empty" if value is None else f"{value:g}"
            raise FoundryError(
                f"{name.replace('_', ' ')} is {told}; give a number from {least:g} to {most:g}"
            )
        found[name] = value
    whole = {name: int(found[name]) for name in ("steps", "seed", "num_images")}
    return Asked(**whole, guidance=found["guidance"], strength=found["strength"], window=found["window"])


RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, MOST_STEPS),
    "guidance": (1, 20),
    "strength": (0, 2),
    "window": (0, 1),
    "seed": (0, 2**31 - 1),
    "num_images": (1, MOST_IMAGES),
}
"""What the page takes for each field of :class:`Asked`."""


def _stripped(entity: Entity) -> Entity:
    return replace(entity, phrase=entity.phrase.strip())


def _rounded(box: BoxNorm) -> BoxNorm:
    left, top, right, bottom = (round(value, DIGITS) for value in box)
    return left, top, right, bottom


def _area(box: BoxNorm) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _holds(box: BoxNorm, point: Point) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
