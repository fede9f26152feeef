"""Files in a landing folder: written whole or not at all, left alone when nothing changed."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.digests import sha256_bytes, sha256_file
from training.errors import FoundryError

QUARANTINE_FILE = "quarantine.parquet"
"""Beside the shards of an import: what could not be used. Never a shard itself."""

SHARD_SCHEMA = pa.schema(
    [
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        pa.field("text", pa.string()),
        pa.field("key", pa.string()),
        pa.field("split", pa.string()),
        pa.field("license", pa.string()),
        pa.field("attribution", pa.string()),
    ]
)
"""The Hugging Face layout of an image-text data set, plus key, split, licence and credit."""


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as Parquet; equal tables give equal bytes."""
    buffer = io.BytesIO()
    # Small row groups let a reader stream; images are compressed already, text is worth it.
    pq.write_table(table, buffer, row_group_size=64, compression="zstd")
    return buffer.getvalue()


def write_if_changed(path: Path, data: bytes) -> bool:
    """Write atomically unless the file holds these bytes already. Returns whether it wrote.

    Raises FoundryError when the disk refuses; what was there before is still there.
    """
    if path.is_file() and path.stat().st_size == len(data) and sha256_file(path) == sha256_bytes(data):
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink()
        raise FoundryError(
            f"{path}: cannot be written ({error.strerror}). Free some space or allow writing there, then repeat."
        ) from error
    return True
