"""Benchmarks out of the published files, our own table and layout files; nothing in them is evaluated or guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmarks.samples import (
    AskedBox,
    LayoutSample,
    parse_list,
    read_benchmark,
    read_pictures,
    sample_of_row,
)
from tests.evaluation.benchmarks.makers import picture, published_row, write_parquet
from training.errors import FoundryError

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=4)


@given(TEXTS)
def test_lists_come_back_as_they_were_written(texts: list[str | None]) -> None:
    assert parse_list(repr(texts), "region_captions", "row 0") == texts
    assert parse_list(json.dumps(texts), "region_captions", "row 0") == texts


@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
)
def test_boxes_are_divided_by_their_own_sample(
    width: int, height: int, shares: list[tuple[float, ...]]
) -> None:
    corners = [(min(a, c), min(b, d), max(a, c) + 0.01, max(b, d) + 0.01) for a, b, c, d in shares]
    px = [
        [x1 / 1.01 * width, y1 / 1.01 * height, x2 / 1.01 * width, y2 / 1.01 * height]
        for x1, y1, x2, y2 in corners
    ]
    texts = repr(["a thing"] * len(px))
    row = published_row(
        "s",
        bbox_list=repr(px),
        width=width,
        height=height,
        region_captions=texts,
        detail_region_captions=texts,
    )
    found = sample_of_row(row, "row 0").boxes
    for box, expected in zip(found, corners, strict=True):
        assert box.box_xyxy_norm == pytest.approx(tuple(value / 1.01 for value in expected), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "value"),
    [("['a', \"it's\"]", ["a", "it's"]), ('["a", null]', ["a", None]), ("[None]", [None]), ("[]", [])],
)
def test_lists_that_are_strings(text: str, value: list[Any]) -> None:
    assert parse_list(text, "region_captions", "row 0") == value


@pytest.mark.parametrize("text", ["__import__('os').getpid()", "{'a': 1}", "", "[1", "[" * 5000])
def test_strings_that_are_no_lists(text: str) -> None:
    with pytest.raises(FoundryError, match="row 4: bbox_list is"):
        parse_list(text, "bbox_list", "row 4")


def test_the_published_form_in_shards(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "test-00000-of-00002.parquet", [published_row("one")])
    write_parquet(tmp_path / "data" / "test-00001-of-00002.parquet", [published_row("two")])
    first, second = read_benchmark(tmp_path)
    assert first == LayoutSample(
        "one",
        "a cup and a plate",
        (
            AskedBox("a cup", "a red cup", (0.0, 0.0, 0.5, 0.5)),
            AskedBox("the plate's rim", "the plate's rim", (0.5, 0.5, 1.0, 1.0)),
        ),
        "one.jpg",
    )
    assert second.image_id == "two"
    assert [name for name, _ in read_pictures(tmp_path)] == ["one", "two"]
    assert dict(read_pictures(tmp_path))["one"] == picture((9, 9, 9))


def test_our_own_table(tmp_path: Path) -> None:
    rows = [
        {"sample_id": "b", "global_caption": "two things", "phrase": "a cup", "description": "a red cup",
         "box_xyxy_norm": [0.0, 0.0, 0.5, 0.5], "spatial": "top left"},
        {"sample_id": "a", "global_caption": "one", "phrase": "a hat", "description": "",
         "box_xyxy_norm": [0.1, 0.1, 0.9, 0.9], "spatial": "middle"},
        {"sample_id": "b", "global_caption": "two things", "phrase": "a pot", "description": "a pot",
         "box_xyxy_norm": [0.5, 0.5, 1.0, 1.0], "spatial": "bottom right"},
    ]  # fmt: skip
    found = read_benchmark(write_parquet(tmp_path / "own.parquet", rows))
    assert [(s.image_id, [(b.phrase, b.detail) for b in s.boxes]) for s in found] == [
        ("b", [("a cup", "a red cup"), ("a pot", "a pot")]),
        ("a", [("a hat", "a hat")]),
    ]


def test_layout_files(tmp_path: Path) -> None:
    layouts = [
        {"image": "sub/x.png", "caption": "a cup", "box_format": "xywh", "width": 10, "height": 20,
         "entities": [{"phrase": "a cup", "box": [0, 0, 5, 10], "description": "a red cup"}]},
        {"image": "y.png", "caption": "a hat", "entities": [{"phrase": "a hat", "box": [0.1, 0.2, 0.3, 0.4]}]},
    ]  # fmt: skip
    path = tmp_path / "layouts.json"
    path.write_text(json.dumps(layouts))
    first, second = read_benchmark(path)
    assert (first.image_id, first.file_name, first.boxes) == (
        "x",
        "sub/x.png",
        (AskedBox("a cup", "a red cup", (0.0, 0.0, 0.5, 0.5)),),
    )
    assert second.boxes == (AskedBox("a hat", "a hat", (0.1, 0.2, 0.3, 0.4)),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox_list": "[[0, 0, 100, 50]]"}, "row 0: holds 1 boxes, 2 region captions and 2 detailed ones"),
        ({"bbox_list": "[[0, 0, 100, 50], [5, 5, 900, 9]]"}, "image one, box 1: .* leaves the image"),
        ({"bbox_list": "[[0, 0, 100, 50], [5, 5, 4, 9]]"}, "image one, box 1: .* corners out of order"),
        ({"bbox_list": "[[0, 0, 100, 50], 'no']"}, "image one, box 1: no does not hold four numbers"),
        ({"bbox_list": "open('x')"}, 'row 0: bbox_list is "open'),
        ({"region_captions": "['a cup', 3]"}, "row 0: region_captions holds 3; allowed are texts"),
        ({"width": 0}, "image one: is 0 x 100 pixels"),
    ],
)
def test_what_a_row_cannot_hold(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_parquet(tmp_path / "bad.parquet", [published_row("one", **change)])
    with pytest.raises(FoundryError, match=message):
        read_benchmark(path)


def test_what_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="nowhere: is not there"):
        read_benchmark(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FoundryError, match="holds no sample"):
        read_benchmark(tmp_path / "empty")
    with pytest.raises(FoundryError, match=r"x.parquet: has the columns a; allowed are LayoutSAM-Eval's"):
        read_benchmark(write_parquet(tmp_path / "x.parquet", [{"a": 1}]))
    with pytest.raises(FoundryError, match="image_id 'one' stands twice"):
        read_benchmark(write_parquet(tmp_path / "t.parquet", [published_row("one"), published_row("one")]))
    (tmp_path / "z.parquet").write_bytes(b"nothing")
    with pytest.raises(FoundryError, match=r"z.parquet: is no Parquet file"):
        read_benchmark(tmp_path / "z.parquet")
    for text, message in (
        ("{", "is no readable JSON"),
        ("{}", "holds a dict; allowed is a list"),
        ('[{"caption": "x"}]', "layout 0: has no 'image'"),
        ('[{"image": "a.png", "caption": "x"}]', "layout 0: a layout has no 'entities'"),
        ('[{"image": "a.png", "caption": "x", "entities": [3]}]', "layout 0: entity 0 is 3"),
    ):
        (tmp_path / "l.json").write_text(text)
        with pytest.raises(FoundryError, match=message):
            read_benchmark(tmp_path / "l.json")
