"""Cutting work into pieces, what travels of them, and the progress lines; no Ray here."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.resources.chunking import (
    LARGEST_PIECE_BATCHES,
    Piece,
    Span,
    cut_smaller,
    plan_pieces,
    rows_in,
)
from orchestration.resources.pool_messages import (
    Answer,
    Order,
    WorkerFailed,
    packed_answer,
    packed_error,
    pickled,
    unpacked_answer,
)
from orchestration.resources.rate import Rate
from training.errors import FoundryError

SIZES = st.lists(st.integers(0, 700), max_size=30)


def rows_covered(pieces: Sequence[Piece], rows_loaded: Sequence[int]) -> list[tuple[int, int]]:
    """(item, row) of every row that the pieces take of items which load so many rows."""
    tables = [pa.table({"row": list(range(number))}) for number in rows_loaded]
    spans = [span for piece in pieces for span in piece]
    return [(span.item, row) for span in spans for row in span.rows_of(tables[span.item])["row"].to_pylist()]


@given(SIZES, st.integers(1, 40), st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_pieces_cover_every_row_once_in_order(sizes: list[int], batch_size: int, num_workers: int) -> None:
    pieces = plan_pieces(sizes, batch_size, num_workers)
    expected = [(item, row) for item, number in enumerate(sizes) for row in range(number)]
    for cut in (pieces, cut_smaller(pieces, batch_size), cut_smaller(pieces, 1)):
        assert rows_covered(cut, sizes) == expected
        assert {span.item for piece in cut for span in piece} == set(range(len(sizes)))
    assert all(rows_in(piece) <= LARGEST_PIECE_BATCHES * batch_size for piece in pieces)


@given(SIZES, st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_an_item_that_loads_more_or_less_than_it_said_is_covered_all_the_same(
    sizes: list[int], batch_size: int
) -> None:
    loaded = [max(number + change, 0) for number, change in zip(sizes, [-3, 5, 0] * 10, strict=False)]
    pieces = plan_pieces(sizes, batch_size, 2)
    expected = {(item, row) for item, number in enumerate(loaded) for row in range(number)}
    for cut in (pieces, cut_smaller(pieces, 1)):
        covered = rows_covered(cut, loaded)
        assert set(covered) == expected
        assert len(covered) == len(expected)


def test_pieces_are_large_first_and_single_batches_last() -> None:
    sizes = [rows_in(piece) for piece in plan_pieces([512] * 20, 8, 2)]
    assert sizes[0] == LARGEST_PIECE_BATCHES * 8
    assert sizes[-1] == 8
    assert len(sizes) < 100
    small_items = [rows_in(piece) for piece in plan_pieces([64] * 160, 8, 2)]
    assert len(small_items) < 100, "small items travel together"


def test_an_order_travels_unchanged() -> None:
    order = Order(3, (Span(0, 16, 8, False), Span(1, 0, 4, True)), (b"how", None))
    assert Order.unpacked(order.packed()) == order


def test_an_answer_travels_unchanged_with_any_columns() -> None:
    rows = pa.table({"boxes": [[{"x": 1.5}], []], "nothing": pa.nulls(2), "image": [b"a", b"b"]})
    answer = unpacked_answer(packed_answer(Answer(7, 2, rows)))
    assert answer == Answer(7, 2, rows)
    assert unpacked_answer(packed_answer(Answer(7, 2, None))) == Answer(7, 2, None)


def test_an_error_travels_as_what_it_is() -> None:
    with pytest.raises(FoundryError, match="^mend this$"):
        unpacked_answer(packed_error(0, FoundryError("mend this")))
    with pytest.raises(WorkerFailed, match="(?s)A worker failed.*ZeroDivisionError: by nothing"):
        unpacked_answer(packed_error(0, ZeroDivisionError("by nothing")))


def first_rows(table: pa.Table) -> pa.Table:
    return table


def test_a_slice_bound_to_a_load_travels_without_the_rest() -> None:
    table = pa.table({"image": [bytes([index]) * 1000 for index in range(200)]})
    load = partial(first_rows, table.slice(5, 2))
    assert len(pickle.dumps(load)) > 200_000, "plain pickle keeps the whole table"
    assert len(pickled(load)) < 5_000
    assert pickle.loads(pickled(load))() == table.slice(5, 2)


def test_progress_is_told_at_most_every_five_seconds_and_at_the_end() -> None:
    now = [0.0]
    lines: list[str] = []
    rate = Rate(lines.append, 1000, lambda: now[0])
    for second in range(1, 12):
        now[0] = float(second)
        rate.add(50)
    assert lines == ["250 of 1,000 rows, 50.0 rows/s, 15 s left", "500 of 1,000 rows, 50.0 rows/s, 10 s left"]
    rate.finish()
    assert lines[-1] == "550 rows in 11.0 s, 50.0 rows/s"
