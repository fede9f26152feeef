"""Rows into Parquet files whose bytes depend on the rows alone.

The same rows must get the same digest however they arrived: in one table or in pieces, freshly made or kept from an
earlier version. So files and row groups are cut by a rule over the rows' own sizes, never by how Arrow happened to
hold them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from assets.graph.versions import StoredFile
from orchestration.resources.files import Files, StoreError
from training.digests import sha256_file

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 8 * 2**20
FILE_ROWS = 524_288
FILE_BYTES = 128 * 2**20
"""A row group ends with the row, a file with the row group, that reaches either figure. Bytes are of values, before
compression."""


def row_sizes_bytes(table: pa.Table) -> Int64[np.ndarray, " rows"]:
    """Bytes that each row's values take. Equal rows have equal sizes, whatever the Arrow buffers behind them."""
    sizes = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        parts = [_value_sizes(chunk) for chunk in column.chunks]
        if parts:
            sizes += np.concatenate(parts)
    return sizes


def _value_sizes(array: pa.Array) -> Int64[np.ndarray, " values"]:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _value_sizes(array.storage)
    if pa.types.is_dictionary(kind):
        return _value_sizes(array.dictionary_decode())
    if pa.types.is_struct(kind):
        return sum((_value_sizes(field) for field in array.flatten()), np.zeros(len(array), np.int64))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = _counts(pc.list_value_length(array))
        below = np.concatenate([[0], np.cumsum(_value_sizes(array.flatten()))])
        ends = np.cumsum(lengths)
        return below[ends] - below[ends - lengths]
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64)
    try:
        return np.full(len(array), max(kind.bit_width // 8, 1), np.int64)
    except ValueError:  # no fixed width: strings and bytes
        return _counts(pc.binary_length(array))


def _counts(lengths: pa.Array) -> Int64[np.ndarray, " values"]:
    return pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)


def cut_rows(batches: Iterable[pa.Table], max_rows: int, max_bytes: int) -> Iterator[tuple[pa.Table, int]]:
    """The same rows again, cut where ``max_rows`` or ``max_bytes`` is reached; each piece with its size in bytes.

    Holds no more than one piece and one incoming batch. Raises StoreError when batches differ in schema.
    """
    waiting: list[pa.Table] = []
    num_rows = num_bytes = 0
    schema: pa.Schema | None = None
    for batch in batches:
        schema = _one_schema(schema, batch)
        sizes = np.cumsum(row_sizes_bytes(batch))
        start = 0
        while start < batch.num_rows:
            before = int(sizes[start - 1]) if start else 0
            by_bytes = int(np.searchsorted(sizes, before + max_bytes - num_bytes, "left")) + 1
            end = min(start + max_rows - num_rows, by_bytes, batch.num_rows)
            waiting.append(batch.slice(start, end - start))
            num_rows += end - start
            num_bytes += int(sizes[end - 1]) - before
            if num_rows >= max_rows or num_bytes >= max_bytes:
                yield pa.concat_tables(waiting).combine_chunks(), num_bytes
                waiting, num_rows, num_bytes = [], 0, 0
            start = end
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks(), num_bytes


def write_files(files: Files, folder: str, batches: Iterable[pa.Table]) -> Iterator[StoredFile]:
    """Write rows into content-named files below ``folder``, in order; at least one, also where there are no rows.

    Memory is bounded by one row group and one incoming batch. Raises StoreError when there is not even an empty
    table, when pieces differ in schema, or when the disk is full.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise StoreError("There are no rows to write and no form either. Pass a table without rows instead.")
    groups = cut_rows(itertools.chain([first], iterator), ROW_GROUP_ROWS, ROW_GROUP_BYTES)
    group: tuple[pa.Table, int] | None = next(groups, (first.slice(0, 0), 0))
    while group is not None:
        with files.scratch(folder) as scratch:
            num_rows, group = _write_one(files, folder, scratch, group, groups)
            yield _adopted(files, folder, scratch, num_rows)


def _adopted(files: Files, folder: str, scratch: Path, num_rows: int) -> StoredFile:
    """Give a finished file its name. One that is there already is kept, if it is whole."""
    sha256, size_bytes = sha256_file(scratch), scratch.stat().st_size
    path = f"{folder}/{sha256}.parquet"
    # A damaged file of that name must not survive the very run that was started to mend it.
    whole = files.is_local and files.exists(path) and files.sha256(path) == sha256
    if not (whole and files.touch(path)):
        files.adopt(scratch, path)
    return StoredFile(path, sha256, size_bytes, num_rows)


def _write_one(
    files: Files,
    folder: str,
    scratch: Path,
    group: tuple[pa.Table, int],
    groups: Iterator[tuple[pa.Table, int]],
) -> tuple[int, tuple[pa.Table, int] | None]:
    """Fill one file with row groups; returns its rows and the first row group of the next file."""
    following: tuple[pa.Table, int] | None = group
    num_rows = num_bytes = 0
    with files.writing(folder):
        writer = pq.ParquetWriter(scratch, group[0].schema, compression="zstd", write_page_checksum=True)
    try:
        while following is not None and num_rows < FILE_ROWS and num_bytes < FILE_BYTES:
            table, size_bytes = following
            with files.writing(folder):
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
            num_rows += table.num_rows
            num_bytes += size_bytes
            following = next(groups, None)
    finally:
        with files.writing(folder):
            writer.close()
    return num_rows, following


def _one_schema(schema: pa.Schema | None, batch: pa.Table) -> pa.Schema:
    if schema is not None and not schema.equals(batch.schema):
        raise StoreError(
            f"Pieces of one table differ in form: {_form(schema)} and then {_form(batch.schema)}. "
            "Cast every piece to the table's schema."
        )
    return batch.schema if schema is None else schema


def _form(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
