"""What travels between this process and the workers of a pool: what to do, and what came of it.

Both are Arrow tables of one row whose payload is opaque to Ray Data, so that it neither converts nor merges nor cuts
it: one piece of work goes in, one answer comes out.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from orchestration.resources.chunking import Piece, Span
from training.errors import FoundryError

SPAN = pa.struct(
    [
        pa.field("item", pa.int64()),
        pa.field("start", pa.int64()),
        pa.field("num_rows", pa.int64()),
        pa.field("is_last", pa.bool_()),
    ]
)
ORDER = pa.schema(
    [
        pa.field("index", pa.int64()),
        pa.field("piece", pa.list_(SPAN)),
        pa.field("loads", pa.list_(pa.large_binary())),
    ]
)
ANSWER = pa.schema(
    [
        pa.field("index", pa.int64()),
        pa.field("num_rows", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("is_users", pa.bool_()),
        pa.field("rows", pa.large_binary()),
    ]
)


class WorkerFailed(RuntimeError):  # noqa: N818
    """A batch function, its model or the loading of its rows raised; the message ends with where."""


@dataclass(frozen=True)
class Order:
    """One piece of work: its number, its spans, and how to load the item of each (None: by the item's number)."""

    index: int
    piece: Piece
    loads: tuple[bytes | None, ...]

    def packed(self) -> pa.Table:
        """The form in which it travels."""
        values = (self.index, [asdict(span) for span in self.piece], list(self.loads))
        return pa.table([[value] for value in values], schema=ORDER)

    @classmethod
    def unpacked(cls, block: pa.Table) -> Order:
        """Inverse of :meth:`packed`."""
        row = block.to_pylist()[0]
        return cls(row["index"], tuple(Span(**span) for span in row["piece"]), tuple(row["loads"]))


@dataclass(frozen=True)
class Answer:
    """What came of an order: rows out of ``num_rows`` rows in, or None where workers died with them."""

    index: int
    num_rows: int
    rows: pa.Table | None


def packed_answer(answer: Answer) -> pa.Table:
    """The form in which an answer travels."""
    payload = None if answer.rows is None else _stream_of(answer.rows)
    return pa.table([[answer.index], [answer.num_rows], [""], [False], [payload]], schema=ANSWER)


def packed_error(index: int, error: BaseException) -> pa.Table:
    """The form in which an exception travels: as text, because not every exception can be pickled and read again."""
    is_users = isinstance(error, FoundryError)
    text = str(error) if is_users else "".join(traceback.format_exception(error))
    return pa.table([[index], [0], [text or repr(error)], [is_users], [None]], schema=ANSWER)


def unpacked_answer(block: pa.Table) -> Answer:
    """Inverse of :func:`packed_answer`. Raises FoundryError or WorkerFailed when the answer is an error.

    The rows are copied out of shared memory: a caller that keeps many would pin all of it.
    """
    index, num_rows, error, is_users, payload = (block[name][0].as_py() for name in ANSWER.names)
    if error:
        raise FoundryError(error) if is_users else WorkerFailed(f"A worker failed:\n{error}")
    return Answer(index, num_rows, None if payload is None else _table_of(payload))


def pickled(load: Callable[[], pa.Table]) -> bytes:
    """``load`` as bytes. A table bound to it travels without the rows that were sliced away, which pickle would keep."""
    sink = io.BytesIO()
    _TrimmingPickler(sink, protocol=5).dump(load)
    return sink.getvalue()


class _TrimmingPickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        return (_table_of, (_stream_of(thing),)) if isinstance(thing, pa.Table) else NotImplemented


def _stream_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _table_of(stream: bytes) -> pa.Table:
    return pa.ipc.open_stream(stream).read_all()
