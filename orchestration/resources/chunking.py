"""Cutting work into pieces: large ones first so that each costs little, small ones last so that workers end together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

LARGEST_PIECE_BATCHES = 64
"""A result travels when its piece is done, so this bounds what a dead worker costs."""

PIECES_LEFT_PER_WORKER = 4
"""A piece is this fraction of a worker's share of what is left (guided self-scheduling)."""


@dataclass(frozen=True)
class Span:
    """Consecutive rows of one work item.

    ``item`` is the position of the item, ``start`` the first row in it. The last span of an item reaches to the item's
    end, because how many rows an item loads may differ a little from what it said.
    """

    item: int
    start: int
    num_rows: int
    is_last: bool

    def rows_of(self, table: pa.Table) -> pa.Table:
        """The span's rows of the loaded item, as a view."""
        return table.slice(self.start) if self.is_last else table.slice(self.start, self.num_rows)


Piece = tuple[Span, ...]
"""What one worker takes at once: small items travel together, large ones in parts."""


def rows_in(piece: Piece) -> int:
    """Rows that a piece is said to have."""
    return sum(span.num_rows for span in piece)


def plan_pieces(rows_of_items: Sequence[int], batch_size: int, num_workers: int) -> list[Piece]:
    """Pieces that cover every row of every item once, in order of the items.

    Sizes fall towards the end: with W workers and R rows left a piece has about R / (4 W) rows, at most 64 batches and
    at least one. Items are cut at whole batches, and only where they are larger than a piece.
    """
    pieces: list[Piece] = []
    piece: list[Span] = []
    rows_left = sum(rows_of_items)
    for item, num_rows in enumerate(rows_of_items):
        rest = Span(item, 0, num_rows, True)
        while True:
            wanted = _wanted_rows(rows_left + rows_in(tuple(piece)), batch_size, num_workers)
            if piece and rows_in((*piece, rest)) > wanted:
                pieces.append(tuple(piece))
                piece = []
            first, rest = _halves(rest, _evened(rest.num_rows, wanted, batch_size))
            piece.append(first)
            rows_left -= first.num_rows
            if first.is_last:
                break
    return [*pieces, tuple(piece)] if piece else pieces


def cut_smaller(pieces: Sequence[Piece], rows_per_piece: int) -> list[Piece]:
    """The same rows in pieces of one span and at most ``rows_per_piece`` rows."""
    return [(part,) for piece in pieces for span in piece for part in _cut(span, rows_per_piece)]


def _wanted_rows(rows_left: int, batch_size: int, num_workers: int) -> int:
    batches = rows_left // (batch_size * PIECES_LEFT_PER_WORKER * num_workers)
    return batch_size * min(max(batches, 1), LARGEST_PIECE_BATCHES)


def _evened(rows_left: int, wanted_rows: int, batch_size: int) -> int:
    """At most ``wanted_rows``, such that the rest of an item falls into nearly equal parts of whole batches."""
    num_parts = max(-(-rows_left // wanted_rows), 1)
    return -(-rows_left // (num_parts * batch_size)) * batch_size


def _halves(span: Span, num_rows: int) -> tuple[Span, Span]:
    """The first ``num_rows`` rows, and what is left. A span that expects no rows stays one: its load decides."""
    left = max(span.num_rows - num_rows, 0)
    rest = replace(span, start=span.start + num_rows, num_rows=left)
    return replace(span, num_rows=span.num_rows - left, is_last=span.is_last and left == 0), rest


def _cut(span: Span, rows_per_part: int) -> list[Span]:
    parts = []
    while True:
        first, span = _halves(span, rows_per_part)
        parts.append(first)
        if not span.num_rows:
            return parts
