"""Parts of Parquet files, read where they are needed: by this process, or by a worker that was sent their address."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from jaxtyping import Int64

from assets.graph.interfaces import WorkItem
from assets.graph.versions import StoredFile
from orchestration.resources.files import StoreError, damaged, missing
from training.digests import sha256_file


@dataclass(frozen=True)
class RowsOfFile:
    """Some rows of one stored file: row numbers within a row group, by row group."""

    url: str
    sha256: str
    groups: tuple[tuple[int, Int64[np.ndarray, " _"]], ...]

    @property
    def num_rows(self) -> int:
        """How many rows are meant."""
        return sum(len(rows) for _, rows in self.groups)


def load_rows(parts: Sequence[RowsOfFile], columns: Sequence[str]) -> pa.Table:
    """Read the rows that ``parts`` name, in order. Raises StoreError when a file is missing, damaged or lacks a column."""
    pieces = []
    for part in parts:
        with open_parquet(part.url, part.sha256) as file:
            check_columns(file, part.url, columns)
            for group, rows in part.groups:
                pieces.append(read_group(file, part.url, group, columns).take(rows))
    return pa.concat_tables(pieces)


def read_file(url: str, sha256: str, columns: Sequence[str] | None) -> pa.Table:
    """All rows of a stored file at once, which reads columns in parallel. Raises as :func:`load_rows` does."""
    with open_parquet(url, sha256) as file:
        return _all_rows(file, url, columns)


def read_bytes(data: bytes, url: str, columns: Sequence[str] | None) -> pa.Table:
    """As :func:`read_file`, for a file whose bytes were fetched and verified as a whole."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(url, error) from error
    return _all_rows(file, url, columns)


def _all_rows(file: pq.ParquetFile, url: str, columns: Sequence[str] | None) -> pa.Table:
    check_columns(file, url, columns or [])
    try:
        table = file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(url, error) from error
    return table if columns is None else table.select(list(columns))


def read_pieces(url: str, sha256: str, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """A stored file row group by row group; at least one piece. Raises StoreError as :func:`load_rows` does."""
    with open_parquet(url, sha256) as file:
        check_columns(file, url, columns or [])
        for group in range(file.num_row_groups):
            yield read_group(file, url, group, columns)
        if file.num_row_groups == 0:
            empty = file.schema_arrow.empty_table()
            yield empty if columns is None else empty.select(list(columns))


def open_parquet(url: str, sha256: str) -> pq.ParquetFile:
    """Open a stored file, its bytes verified: a local one as a whole, a remote one page by page as it is read.

    Raises StoreError when it is missing or damaged.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    try:
        if isinstance(filesystem, LocalFileSystem):
            verify_local(Path(path), sha256)
            return pq.ParquetFile(path)
        return pq.ParquetFile(filesystem.open(path, "rb"), page_checksum_verification=True)
    except FileNotFoundError as error:
        raise missing(url) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(url, error) from error


def verify_local(path: Path, sha256: str) -> None:
    """Refuse a local file whose bytes are not the ones that were written.

    One that was checked by this process and has not been written to since is not read again.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise missing(str(path)) from error
    found = _digest(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if found != sha256:
        raise damaged(str(path), found, sha256)


@functools.lru_cache(maxsize=65_536)
def _digest(path: Path, size_bytes: int, written_ns: int, changed_ns: int) -> str:
    """A file's digest; its size and times make a rewritten file a new question."""
    return sha256_file(path)


def read_group(file: pq.ParquetFile, url: str, group: int, columns: Sequence[str] | None) -> pa.Table:
    """One row group, columns in the order asked for. Raises StoreError when its bytes are damaged."""
    try:
        table = file.read_row_group(group, columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(url, error) from error
    return table if columns is None else table.select(list(columns))


def check_columns(file: pq.ParquetFile, url: str, columns: Sequence[str]) -> None:
    """Raise StoreError when a column is asked for that the file does not have."""
    known = file.schema_arrow.names
    absent = [name for name in columns if name not in known]
    if absent:
        raise StoreError(
            f"{url} has no column {', '.join(absent)}; it has {', '.join(known)}. "
            "It was written in another form: materialize its asset again."
        )


def plan_work(
    files: Sequence[tuple[str, StoredFile]],
    key: str,
    wanted: Sequence[str],
    columns: Sequence[str],
    rows_per_item: int,
) -> list[WorkItem]:
    """Work items over the rows whose ``key`` is wanted, in stored order; only the key column is read here.

    ``files`` pairs each file with its URL.
    """
    if rows_per_item < 1:
        raise StoreError(f"rows_per_item is {rows_per_item}; a work item holds at least 1 row.")
    wanted_keys = pa.array(list(dict.fromkeys(wanted)), pa.string())
    items: list[WorkItem] = []
    waiting: list[tuple[str, str, int, np.ndarray]] = []
    room = rows_per_item
    for url, stored in files:
        for group, rows in _wanted_rows(url, stored.sha256, key, wanted_keys):
            while len(rows):
                waiting.append((url, stored.sha256, group, rows[:room]))
                room, rows = room - len(rows[:room]), rows[room:]
                if room == 0:
                    items.append(_item(waiting, columns))
                    waiting, room = [], rows_per_item
    return [*items, _item(waiting, columns)] if waiting else items


def _wanted_rows(
    url: str, sha256: str, key: str, wanted: pa.Array
) -> list[tuple[int, Int64[np.ndarray, " _"]]]:
    import pyarrow.compute as pc

    found = []
    with open_parquet(url, sha256) as file:
        check_columns(file, url, [key])
        for group in range(file.num_row_groups):
            keys = read_group(file, url, group, [key])[key]
            hits = pc.is_in(keys, value_set=wanted).to_numpy(zero_copy_only=False)
            found.append((group, np.flatnonzero(hits).astype(np.int64)))
    return found


def _item(waiting: Sequence[tuple[str, str, int, np.ndarray]], columns: Sequence[str]) -> WorkItem:
    by_file: dict[tuple[str, str], list[tuple[int, np.ndarray]]] = {}
    for url, sha256, group, rows in waiting:
        by_file.setdefault((url, sha256), []).append((group, rows))
    parts = tuple(RowsOfFile(url, sha256, tuple(groups)) for (url, sha256), groups in by_file.items())
    load = functools.partial(load_rows, parts, tuple(columns))
    return WorkItem(sum(part.num_rows for part in parts), load)


def _unreadable(url: str, error: Exception) -> StoreError:
    return StoreError(f"{url} is not readable Parquet ({error}). Materialize its asset again.")
