"""Parquet shards as the Hugging Face hub names them: ``data/train-00000-of-00012.parquet``, written as rows arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import FoundryError

ROW_GROUP_ROWS = 64
SHARD_BYTES = 400 * 2**20
_PARQUET_ERRORS = (pa.ArrowException, OSError)


def write_shards(
    folder: Path,
    split: str,
    schema: pa.Schema,
    rows: Iterable[Mapping[str, Any]],
    shard_bytes: int = SHARD_BYTES,
) -> tuple[int, int]:
    """Write rows into shards of about ``shard_bytes`` of images and texts; memory is bounded by a row group.

    Returns (rows, bytes of the files). At least one shard is written, so that the schema is there without rows.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    num_rows = 0
    writer: pq.ParquetWriter | None = None
    filled = 0
    try:
        for group in _groups(rows):
            if writer is None or filled >= shard_bytes:
                if writer is not None:
                    writer.close()
                shards.append(data / f"{split}-{len(shards):05d}.part")
                writer, filled = pq.ParquetWriter(shards[-1], schema, compression="zstd"), 0
            table = pa.Table.from_pylist(group, schema=schema)
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            num_rows += table.num_rows
            filled += table.nbytes
        if writer is None:
            shards.append(data / f"{split}-00000.part")
            writer = pq.ParquetWriter(shards[0], schema, compression="zstd")
    finally:
        if writer is not None:
            writer.close()
    num_bytes = 0
    for index, part in enumerate(shards):
        final = part.replace(data / f"{split}-{index:05d}-of-{len(shards):05d}.parquet")
        num_bytes += final.stat().st_size
    return num_rows, num_bytes


def list_shards(folder: Path, split: str | None = None) -> list[Path]:
    """Parquet files of a data set folder (``data/`` or the folder itself), of one split or of all, sorted."""
    place = folder / "data" if (folder / "data").is_dir() else folder
    return sorted(place.glob(f"{split or ''}*.parquet")) if folder.is_dir() else [folder]


def read_rows(path: Path, columns: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, a row group's piece at a time. Raises FoundryError that names the file."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            wanted = None if columns is None else list(columns)
            lacking = sorted(set(wanted or ()) - set(file.schema_arrow.names))
            if lacking:
                raise FoundryError(
                    f"{path}: lacks the columns {', '.join(lacking)}, found {', '.join(file.schema_arrow.names)}. "
                    "Check that it is the format you named."
                )
            for batch in file.iter_batches(ROW_GROUP_ROWS, columns=wanted):
                yield from batch.to_pylist()
    except _PARQUET_ERRORS as error:
        raise FoundryError(
            f"{path}: is damaged ({str(error)[:200]}). Download or export it again."
        ) from error


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(dict(row))
        if len(group) == ROW_GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group
