"""Boxes over a picture: colours of the sheets, phrases that are no markup, grips on what is selected."""

from __future__ import annotations

from xml.etree import ElementTree

from evaluation.plots.contact_sheets import BOX_COLORS
from orchestration.studio.overlay import color_of, overlay
from training.layout.entities import Entity

BOXES = [Entity("a <b>cat</b> & dog", (0.1, 0.2, 0.5, 0.6)), Entity("", (0.0, 0.0, 1.0, 1.0))]


def drawn(svg: str, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(tag)


def test_every_box_has_its_place_its_colour_and_its_name() -> None:
    svg = overlay(BOXES)
    first, second = drawn(svg, "rect")
    assert [first.get(name) for name in ("x", "y", "width", "height")] == ["100", "200", "400", "400"]
    assert (first.get("stroke"), second.get("stroke")) == (color_of(0), color_of(1))
    assert [name.text for name in drawn(svg, "text")] == ["a <b>cat</b> & dog", "box 2"]
    assert color_of(len(BOX_COLORS)) == color_of(0) == "#e6194b"


def test_what_is_selected_has_grips_and_what_is_being_drawn_is_dashed() -> None:
    assert len(drawn(overlay(BOXES, selected=1), "rect")) == 2 + 4
    *_, last = drawn(overlay(BOXES, preview=(0.1, 0.1, 0.2, 0.2)), "rect")
    assert last.get("stroke-dasharray")
    assert overlay([]).count("<") == 2


def test_a_picture_is_not_tinted_and_its_boxes_have_a_rim() -> None:
    boxes = drawn(overlay(BOXES, is_result=True), "rect")
    assert {box.get("fill") for box in boxes} == {"none"}
    assert [box.get("stroke") for box in boxes] == ["white", "white", color_of(0), color_of(1)]


def test_a_name_ends_at_the_edge() -> None:
    long = [Entity("very " * 20, (left, 0.1, 1.0, 0.3)) for left in (0.0, 0.5, 0.9)]
    lengths = [len(name.text or "") for name in drawn(overlay(long), "text")]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[1] > lengths[2] >= 5
