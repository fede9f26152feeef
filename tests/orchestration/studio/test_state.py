"""The layout of a page: any drag is a box of the canvas or a click, and what is saved comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.layout.prompted import Asked
from orchestration.studio.state import RANGES, SMALLEST_SIDE, Board, Point, asked_of, inside, spanned
from training.errors import FoundryError
from training.layout.boxes import BoxNorm
from training.layout.entities import Entity, read_layout

places = st.tuples(st.floats(-3, 4), st.floats(-3, 4))
paths = st.lists(places, min_size=2, max_size=6)


def drag(board: Board, *points: Point) -> bool:
    board.press(points[0])
    for point in points[1:]:
        board.move(point)
    return board.release(points[-1])


def box_of(board: Board, number: int = -1) -> BoxNorm:
    return board.boxes[number].box_xyxy_norm


def two_boxes() -> Board:
    board = Board()
    board.caption = "a cat and a dog"
    board.add(Entity("a cat", (0.1, 0.1, 0.5, 0.5)))
    board.add(Entity("a dog", (0.3, 0.3, 0.9, 0.9)))
    return board


@settings(deadline=None)
@given(first=places, second=places)
def test_corners_come_in_any_order_and_are_cut_to_the_canvas(first: Point, second: Point) -> None:
    found = spanned(first, second)
    crossed = ((first[0], second[1]), (second[0], first[1]))
    assert found == spanned(second, first) == spanned(*crossed)
    (x1, y1), (x2, y2) = inside(first), inside(second)
    assert (found is None) == (min(abs(x1 - x2), abs(y1 - y2)) < SMALLEST_SIDE)
    if found is not None:
        assert 0 <= found[0] < found[2] <= 1
        assert 0 <= found[1] < found[3] <= 1
        assert found == pytest.approx((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), abs=5e-4)


@settings(deadline=None)
@given(st.lists(paths, max_size=8))
def test_whatever_the_mouse_does_the_layout_can_be_saved_and_read(drags: list[list[Point]]) -> None:
    board = Board()
    for path in drags:
        if drag(board, *path):
            board.rename(len(board.boxes) - 1, "a cat")
        assert board.preview is None
        assert not board.is_dragging
    again = Board()
    again.load(board.file(), "layout.json")
    assert again.layout() == board.layout()
    assert board.selected is None or board.selected < len(board.boxes)


@settings(deadline=None)
@given(path=paths)
def test_a_box_keeps_its_size_wherever_it_is_dragged(path: list[Point]) -> None:
    board = Board()
    board.add(Entity("a cat", (0.2, 0.3, 0.6, 0.5)))
    drag(board, (0.4, 0.4), *path)
    left, top, right, bottom = box_of(board)
    assert (right - left, bottom - top) == pytest.approx((0.4, 0.2))
    assert min(left, top) >= 0
    assert max(right, bottom) <= 1


def test_a_drag_shows_the_box_to_come_and_a_click_selects() -> None:
    board = two_boxes()
    board.selected = None
    board.press((0.05, 0.6))
    board.move((0.2, 0.95))
    assert board.preview == (0.05, 0.6, 0.2, 0.95)
    assert len(board.boxes) == 2
    assert board.release((0.25, 0.95))
    assert (box_of(board), board.selected, board.preview) == ((0.05, 0.6, 0.25, 0.95), 2, None)
    for point, selected in (((0.4, 0.4), 0), ((0.7, 0.7), 1), ((0.99, 0.01), None)):
        board.selected = None
        assert not drag(board, point, point)
        assert board.selected == selected  # of two boxes the smaller
    assert len(board.boxes) == 3


def test_the_selected_box_is_moved_and_pulled_at_its_corners() -> None:
    board = two_boxes()
    drag(board, (0.6, 0.6), (0.5, 0.7))
    assert box_of(board) == pytest.approx((0.2, 0.4, 0.8, 1.0))
    drag(board, (0.8, 0.4), (0.9, 0.1))
    assert box_of(board) == pytest.approx((0.2, 0.1, 0.9, 1.0))
    drag(board, (0.2, 0.1), (0.95, 0.5))  # beyond the side that stays
    assert box_of(board) == pytest.approx((0.9, 0.5, 0.95, 1.0))
    assert len(board.boxes) == 2
    assert box_of(board, 0) == (0.1, 0.1, 0.5, 0.5)


def test_a_corner_that_would_leave_no_box_stays_where_it_was_last() -> None:
    board = two_boxes()
    drag(board, (0.9, 0.9), (0.5, 0.5), (0.305, 0.305))
    assert box_of(board) == (0.3, 0.3, 0.5, 0.5)


def test_a_drag_that_is_cancelled_has_not_been() -> None:
    board = two_boxes()
    for start in ((0.6, 0.6), (0.9, 0.9), (0.05, 0.95)):
        board.press(start)
        board.move((0.5, 0.8))
        board.cancel()
        assert box_of(board) == (0.3, 0.3, 0.9, 0.9)
        assert not board.release((0.5, 0.8))
    assert len(board.boxes) == 2


def test_boxes_are_added_by_numbers_renamed_and_removed() -> None:
    board = two_boxes()
    board.add_text("a tree: 0,0,0.5,1")
    assert (box_of(board), board.selected) == ((0, 0, 0.5, 1), 2)
    with pytest.raises(FoundryError, match=r"box of 'a tree': 0.5, 0, 0.2, 1: read as xyxy it is empty"):
        board.add_text("a tree: 0.5,0,0.2,1")
    board.rename(2, " an oak ")
    board.remove(0)
    assert [entity.phrase for entity in board.layout().entities] == ["a dog", "an oak"]
    assert board.selected is None


def test_what_is_saved_is_a_layout_file(tmp_path: Path) -> None:
    board = two_boxes()
    path = tmp_path / "layout.json"
    path.write_bytes(board.file())
    assert read_layout(path) == board.layout()
    assert json.loads(path.read_text())["box_format"] == "xyxy"


def test_what_cannot_be_drawn_is_told_in_words() -> None:
    board = two_boxes()
    board.rename(1, "  ")
    with pytest.raises(FoundryError, match="box 2 has no phrase; say what should stand in it, or delete it"):
        board.file()
    board.rename(1, "a dog")
    with pytest.raises(FoundryError, match="2 entities found, this model takes 1; leave out 'a dog'"):
        board.layout(max_boxes=1)
    with pytest.raises(FoundryError, match=r"cats\.json: entity 0 has no 'box'"):
        board.load(b'{"caption": "a", "entities": [{"phrase": "a"}]}', "cats.json")
    with pytest.raises(FoundryError, match=r"cats\.png: is no JSON"):
        board.load(b"\x89PNG\xff", "cats.png")
    assert len(board.boxes) == 2  # what there was stays


def test_settings_are_read_and_those_out_of_range_are_named() -> None:
    given_ = {"steps": 4.0, "guidance": 2.5, "strength": 0.8, "window": 0.3, "seed": 7.0, "num_images": 2.0}
    assert asked_of(given_) == Asked(4, 2.5, 0.8, 0.3, 7, 2)
    assert given_.keys() == RANGES.keys()
    with pytest.raises(FoundryError, match="steps is empty; give a number from 1 to 1000"):
        asked_of({**given_, "steps": None})
    with pytest.raises(FoundryError, match="num images is 17; give a number from 1 to 16"):
        asked_of({**given_, "num_images": 17})
