"""Layouts as people write them: every form of a box comes to the same place, and what is wrong is told by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import FoundryError
from training.layout.boxes import BOX_FORMATS, BoxFormat, box_xyxy_norm
from training.layout.entities import Entity, Layout, entity_of_text, layout_of, read_layout

SHARES = st.integers(0, 1000).map(lambda value: value / 1000)
BOXES = st.tuples(SHARES, SHARES, SHARES, SHARES).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]) + 0.001, max(v[1], v[3]) + 0.001)
).filter(lambda box: max(box) <= 1)  # fmt: skip


def written(box: tuple[float, ...], box_format: BoxFormat, size: tuple[float, float]) -> list[float]:
    """A normalised xyxy box in another format and in pixels."""
    (x1, y1, x2, y2), (w, h) = box, size
    corner = {"xyxy": (x1, y1), "xywh": (x1, y1), "cxcywh": ((x1 + x2) / 2, (y1 + y2) / 2)}[box_format]
    rest = (x2, y2) if box_format == "xyxy" else (x2 - x1, y2 - y1)
    return [corner[0] * w, corner[1] * h, rest[0] * w, rest[1] * h]


@given(BOXES, st.sampled_from(BOX_FORMATS), st.sampled_from([None, (640.0, 480.0), (31.0, 7.0)]))
def test_every_form_of_a_box_is_the_same_box(
    box: tuple[float, ...], box_format: BoxFormat, size: tuple[float, float] | None
) -> None:
    values = written(box, box_format, size or (1.0, 1.0))
    assert box_xyxy_norm(values, "car", box_format, size) == pytest.approx(box, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "box_format", "size", "told"),
    [
        ([0.1, 0.2, 0.3], "xyxy", None, "3 values found"),
        ([0.5, 0.1, 0.2, 0.9], "xyxy", None, "empty or inverted"),
        ([0.5, 0.5, 0.5, 0.9], "xyxy", None, "empty or inverted"),
        ([0.5, 0.5, 0.7, 0.2], "xywh", None, "over the picture's edge"),
        ([10, 20, 30, 40], "xyxy", None, "Pixels need the picture's size"),
        ([10, 20, 30, 50], "xyxy", (40, 40), "over the edge of 40 x 40 pixels"),
        ([float("nan"), 0, 1, 1], "xyxy", None, "finite numbers"),
        ([0, 0, 1, 1], "x1x2y1y2", None, "allowed are xyxy, xywh, cxcywh"),
        ([0, 0, 1, 1], "xyxy", (0, 40), "give the size it has"),
    ],
)
def test_what_is_wrong_with_a_box_is_told_with_its_entity(
    values: list[float], box_format: str, size: tuple[float, float] | None, told: str
) -> None:
    with pytest.raises(FoundryError, match=told) as raised:
        box_xyxy_norm(values, "a red car", box_format, size)
    assert "a red car" in str(raised.value)


def test_an_entity_of_the_command_line() -> None:
    assert entity_of_text("time: 5 o'clock: 0.1,0.5,0.4,0.9") == Entity(
        "time: 5 o'clock", (0.1, 0.5, 0.4, 0.9)
    )
    for wrong in ("a red car", "0.1,0.2,0.3,0.4", "car: a,b,c,d"):
        with pytest.raises(FoundryError, match="write 'phrase: x1,y1,x2,y2'"):
            entity_of_text(wrong)
    with pytest.raises(FoundryError, match="no phrase"):
        entity_of_text(" : 0.1,0.5,0.4,0.9")


def test_a_layout_survives_its_file(tmp_path: Path) -> None:
    layout = Layout(
        "a car and a tree", (Entity("car", (0.0, 0.5, 0.5, 1.0)), Entity("tree", (0.25, 0.0, 1.0, 0.5)))
    )
    path = tmp_path / "layout.json"
    path.write_text(json.dumps(layout.as_json()))
    assert read_layout(path) == layout
    assert layout.swapped().entities[0] == Entity("car", (0.5, 0.5, 1.0, 1.0))
    assert layout.swapped().swapped() == layout
    layout.require_at_most(2)
    with pytest.raises(FoundryError, match="2 entities found, this model takes 1; leave out 'tree'"):
        layout.require_at_most(1)


CAR: dict[str, Any] = {"phrase": "car", "box": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "a layout is \\[\\]"),
        ({"caption": "x"}, "no 'entities'"),
        ({"caption": 3, "entities": []}, "caption is 3"),
        ({"caption": "x", "entities": {}}, "entities is"),
        ({"caption": "x", "entities": [], "boxes": []}, "a field 'boxes'"),
        ({"caption": "x", "entities": [{"phrase": "car"}]}, "entity 0 has no 'box'"),
        ({"caption": "x", "entities": [{**CAR, "box": "0,0,1,1"}]}, "entity 0"),
        ({"caption": "x", "entities": [{**CAR, "box": [0, 0, True, 1]}]}, "entity 0"),
        ({"caption": "x", "entities": [CAR], "width": 64}, "height None"),
        ({"caption": "x", "entities": [CAR], "box_format": "yxyx"}, "format 'yxyx'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_field(given: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=told):
        layout_of(given)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(given))
    with pytest.raises(FoundryError, match="broken.json: "):
        read_layout(path)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="cannot be read"):
        read_layout(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(FoundryError, match="is no JSON"):
        read_layout(tmp_path / "text.json")
