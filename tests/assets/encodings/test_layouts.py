"""Layouts of a dataset's samples out of annotations."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from assets.encodings.layouts import COLUMNS, Text, read_layouts
from training.layout.entities import Entity

ROWS: list[dict[str, Any]] = [
    {"sample_id": "b", "entity_index": 1, "phrase": "a tree", "description": "", "box_xyxy_norm": [0.5, 0.1, 0.9, 0.8]},
    {"sample_id": "b", "entity_index": 0, "phrase": "a car", "description": "a red car", "box_xyxy_norm": [0.0, 0.5, 0.5, 1.0]},
    {"sample_id": "b", "entity_index": 2, "phrase": "a line", "description": "", "box_xyxy_norm": [0.2, 0.5, 0.2, 0.9]},
    {"sample_id": "a", "entity_index": 0, "phrase": "a dog", "description": "a dog", "box_xyxy_norm": [0.1, 0.1, 0.2, 1.0000001]},
    {"sample_id": "gone", "entity_index": 0, "phrase": "a cat", "description": "", "box_xyxy_norm": [0.1, 0.1, 0.2, 0.2]},
]  # fmt: skip


class Annotations:
    """A store that holds one table."""

    def __init__(self, rows: Sequence[dict[str, Any]], keep: Sequence[bool]) -> None:
        self.table = pa.Table.from_pylist(
            [{**row, "keep": kept} for row, kept in zip(rows, keep, strict=True)]
        )

    def read_all(self, name: str, columns: Sequence[str]) -> pa.Table:
        assert (name, list(columns)) == ("entity_annotations", COLUMNS)
        return self.table.select(list(columns))


def dataset(*sample_ids: str) -> Any:
    return SimpleNamespace(samples=pa.table({"sample_id": list(sample_ids)}))


@pytest.mark.parametrize(("text", "car"), [("description", "a red car"), ("phrase", "a car")])
def test_kept_entities_stand_in_the_datasets_order_best_first(text: Text, car: str) -> None:
    store: Any = Annotations(ROWS, [True] * len(ROWS))
    found = read_layouts(store, dataset("a", "c", "b"), text)
    assert found.by_row == [
        [Entity("a dog", (0.1, 0.1, 0.2, 1.0))],
        [],
        [Entity(car, (0.0, 0.5, 0.5, 1.0)), Entity("a tree", (0.5, 0.1, 0.9, 0.8))],
    ]
    assert found.counts() == {"0": 1, "1": 1, "2": 1}


def test_what_was_dropped_is_not_there() -> None:
    store: Any = Annotations(ROWS, [True, False, True, False, True])
    assert read_layouts(store, dataset("a", "b"), "phrase").by_row == [
        [], [Entity("a tree", (0.5, 0.1, 0.9, 0.8))],
    ]  # fmt: skip
