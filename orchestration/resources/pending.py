"""Results of an unfinished run: small content-named files that outlive a killed process."""

from __future__ import annotations

import time

import pyarrow as pa

from orchestration.resources.files import Files
from training.digests import sha256_bytes

PENDING = "_pending"
_SUFFIX = ".arrow"


class PendingFolder:
    """Implements :class:`assets.graph.interfaces.Pending`: one Arrow file a batch, named by time and digest."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files = files
        self._folder = folder

    def append(self, results: pa.Table) -> None:
        """Keep a batch of results; it is on disk when the call returns. Raises StoreError on a full disk."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(
            sink, results.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        ) as to:
            to.write_table(results)
        data = sink.getvalue().to_pybytes()
        self._files.write(f"{self._folder}/{time.time_ns():020d}-{sha256_bytes(data)}{_SUFFIX}", data)

    def read(self) -> list[pa.Table]:
        """Everything kept so far, oldest first; what was damaged or half-written is left out."""
        tables = []
        for name in self._files.children(self._folder):
            if not name.endswith(_SUFFIX):
                continue
            data = self._files.read(f"{self._folder}/{name}")
            if sha256_bytes(data) == name.removesuffix(_SUFFIX).rpartition("-")[2]:
                tables.append(pa.ipc.open_stream(data).read_all())
        return tables

    def clear(self) -> None:
        """Forget everything."""
        self._files.remove_folder(self._folder)
