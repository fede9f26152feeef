"""A layout: what should stand where. Written by hand, in a JSON file, or by the graph's annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import FoundryError
from training.layout.boxes import BoxNorm, box_xyxy_norm

KEYS = ("caption", "entities", "box_format", "width", "height")
ENTITY_KEYS = ("phrase", "box")


@dataclass(frozen=True)
class Entity:
    """A phrase ("a red car") and its place."""

    phrase: str
    box_xyxy_norm: BoxNorm


@dataclass(frozen=True)
class Layout:
    """A caption and the entities that it is about, none or more."""

    caption: str
    entities: tuple[Entity, ...]

    def require_at_most(self, max_boxes: int) -> None:
        """Raise FoundryError when there are more entities than a model takes."""
        if len(self.entities) > max_boxes:
            first = self.entities[max_boxes].phrase
            raise FoundryError(
                f"{len(self.entities)} entities found, this model takes {max_boxes}; leave out '{first}' and what "
                "follows, or train one with a larger max_boxes"
            )

    def swapped(self) -> Layout:
        """The same mirrored left to right: what stood left stands right. Phrases and caption stay."""
        return Layout(
            self.caption,
            tuple(
                Entity(entity.phrase, (1 - right, top, 1 - left, bottom))
                for entity in self.entities
                for left, top, right, bottom in [entity.box_xyxy_norm]
            ),
        )

    def as_json(self) -> dict[str, Any]:
        """What :func:`layout_of` reads: normalised xyxy."""
        entities = [{"phrase": entity.phrase, "box": list(entity.box_xyxy_norm)} for entity in self.entities]
        return {"caption": self.caption, "box_format": "xyxy", "entities": entities}


def entity_of_text(text: str, box_format: str = "xyxy", size_px: tuple[float, float] | None = None) -> Entity:
    """An entity as the command line has it: ``a red car: 0.1,0.5,0.4,0.9``. The last colon ends the phrase.

    Raises FoundryError for a text of another form and for boxes as :func:`training.layout.boxes.box_xyxy_norm` does.
    """
    phrase, colon, numbers = text.rpartition(":")
    try:
        values = [float(part) for part in numbers.split(",")]
    except ValueError:
        values = []
    if not colon or not values:
        raise FoundryError(f"box '{text}': write 'phrase: x1,y1,x2,y2', as in 'a red car: 0.1,0.5,0.4,0.9'")
    return _entity(phrase, values, box_format, size_px)


def read_layout(path: Path) -> Layout:
    """A layout file. Raises FoundryError naming the file and the field."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FoundryError(f"{path}: cannot be read ({error.strerror}); name a layout file") from error
    return parse_layout(content, str(path))


def parse_layout(content: bytes, name: str) -> Layout:
    """The content of a layout file. Raises FoundryError naming the file by ``name``, and the field."""
    try:
        given = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise FoundryError(
            f"{name}: is no JSON ({error}); write a layout as docs/layout.md has it"
        ) from error
    try:
        return layout_of(given)
    except FoundryError as error:
        raise FoundryError(f"{name}: {error}") from error


def layout_of(given: Any) -> Layout:
    """A layout from parsed JSON: ``caption``, ``entities`` (``phrase`` and ``box`` each), and where boxes are no normalised
    xyxy ``box_format``, or ``width`` and ``height`` of the picture for boxes in pixels.

    Raises FoundryError naming the field.
    """
    fields = _checked(given, KEYS, "a layout", ("caption", "entities"))
    if not isinstance(fields["caption"], str):
        raise FoundryError(f"caption is {fields['caption']!r}; give a text")
    if not isinstance(fields["entities"], list):
        raise FoundryError(f"entities is {fields['entities']!r}; give a list")
    size_px = _size(fields)
    entities = []
    for number, entry in enumerate(fields["entities"]):
        own = _checked(entry, ENTITY_KEYS, f"entity {number}", ENTITY_KEYS)
        phrase, box = own["phrase"], own["box"]
        is_box = isinstance(box, list) and all(_is_number(value) for value in box)
        if not isinstance(phrase, str) or not is_box:
            raise FoundryError(f"entity {number}: {entry!r} found; give a phrase and a box of four numbers")
        entities.append(_entity(phrase, box, fields.get("box_format", "xyxy"), size_px))
    return Layout(fields["caption"], tuple(entities))


def _entity(
    phrase: str, values: Sequence[float], box_format: str, size_px: tuple[float, float] | None
) -> Entity:
    if not phrase.strip():
        raise FoundryError("an entity has no phrase; say what should stand in its box")
    return Entity(phrase.strip(), box_xyxy_norm(values, phrase.strip(), box_format, size_px))


def _checked(given: Any, known: Sequence[str], what: str, needed: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise FoundryError(f"{what} is {given!r}; give an object with {', '.join(needed)}")
    for name in given:
        if name not in known:
            raise FoundryError(f"{what} has a field '{name}'; allowed are {', '.join(known)}")
    for name in needed:
        if name not in given:
            raise FoundryError(f"{what} has no '{name}'; it needs {', '.join(needed)}")
    return given


def _size(fields: Mapping[str, Any]) -> tuple[float, float] | None:
    width, height = fields.get("width"), fields.get("height")
    if width is None and height is None:
        return None
    if width is None or height is None or not (_is_number(width) and _is_number(height)):
        raise FoundryError(
            f"width is {width!r} and height {height!r}; boxes in pixels need both, normalised ones neither"
        )
    return float(width), float(height)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
