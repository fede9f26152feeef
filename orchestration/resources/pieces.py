"""Cutting work into pieces: large ones first so that each costs little, small ones last so that workers end together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

LARGEST_PIECE_BATCHES = 32
"""A result travels when its piece is done, so this bounds what a dead worker costs."""

PIECES_LEFT_PER_WORKER = 4
"""A piece is this fraction of a worker's share of what is left (guided self-scheduling)."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one work item that one worker takes at once.

    ``item`` is the position of the item, ``start`` the first row in it. The last piece of an item reaches to the
    item's end, because how many rows an item loads may differ a little from what it said.
    """

    item: int
    start: int
    num_rows: int
    is_last: bool

    def rows_of(self, table: pa.Table) -> pa.Table:
        """The piece's rows of the loaded item, as a view."""
        return table.slice(self.start) if self.is_last else table.slice(self.start, self.num_rows)


def plan_pieces(rows_of_items: Sequence[int], batch_size: int, num_workers: int) -> list[Piece]:
    """Pieces that cover every row of every item once, in order of the items.

    Sizes are whole batches but for the last piece of an item, and fall towards the end: with W workers and R rows left
    a piece is about R / (4 W), at most 32 batches and at least one. An item that expects no rows is one piece all the
    same: what it loads decides.
    """
    pieces: list[Piece] = []
    rows_left = sum(rows_of_items)
    for item, num_rows in enumerate(rows_of_items):
        start = 0
        if num_rows == 0:
            pieces.append(Piece(item, 0, 0, True))
        while start < num_rows:
            wanted = rows_left // (batch_size * PIECES_LEFT_PER_WORKER * num_workers)
            batches = min(max(wanted, 1), LARGEST_PIECE_BATCHES)
            size = _evened(num_rows - start, batches * batch_size, batch_size)
            pieces.append(Piece(item, start, size, start + size == num_rows))
            start += size
            rows_left -= size
    return pieces


def cut_smaller(pieces: Sequence[Piece], rows_per_piece: int) -> list[Piece]:
    """The same rows in pieces of at most ``rows_per_piece``."""
    return [part for piece in pieces for part in _cut(piece, rows_per_piece)]


def _cut(piece: Piece, rows_per_piece: int) -> list[Piece]:
    end = piece.start + max(piece.num_rows, 1)
    parts = [
        Piece(piece.item, start, min(rows_per_piece, end - start), False)
        for start in range(piece.start, end, rows_per_piece)
    ]
    return [*parts[:-1], replace(parts[-1], is_last=piece.is_last)]


def _evened(rows_left_in_item: int, wanted_rows: int, batch_size: int) -> int:
    """At most ``wanted_rows``, such that the rest of the item falls into nearly equal pieces of whole batches."""
    num_pieces = -(-rows_left_in_item // wanted_rows)
    batches = -(-rows_left_in_item // (num_pieces * batch_size))
    return min(batches * batch_size, rows_left_in_item)
