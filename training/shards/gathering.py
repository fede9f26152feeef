"""Rows gathered from many memory-mapped arrays as if they were one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Int, Int64

from training.errors import FoundryError
from training.shards.arrays import array_file

MAX_OPEN_ARRAYS = 640  # a mapped array holds a file descriptor; processes have 1024 by default


class MappedArrays:
    """Arrays of a dataset's shards, mapped when first used; the least recently used are let go. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[tuple[str, int | None], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str, shard: int | None) -> np.ndarray:
        """One array, memory-mapped read-only. Raises FoundryError when the dataset was written without."""
        key = (name, shard)
        with self._lock:
            found = self._open.get(key)
            if found is None:
                found = self._map(name, shard)
                if len(self._open) >= MAX_OPEN_ARRAYS:
                    self._open.popitem(last=False)
                self._open[key] = found
            else:
                self._open.move_to_end(key)
            return found

    def forget(self, shard: int) -> None:
        """Let go of a shard's arrays, so that deleting its files frees the disk."""
        with self._lock:
            for key in [key for key in self._open if key[1] == shard]:
                del self._open[key]

    def _map(self, name: str, shard: int | None) -> np.ndarray:
        path = self.folder / array_file(name, shard)
        try:
            # A plain array over the map: indexing numpy's own memmap class costs a microsecond more each time.
            return np.asarray(np.load(path, mmap_mode="r"))
        except FileNotFoundError:
            raise FoundryError(
                f"{path}: not there; the dataset was written without, or its shard was not staged yet"
            ) from None


def by_shard(
    starts: Int64[np.ndarray, " shards_plus_1"], rows: Int[np.ndarray, " b"]
) -> Iterator[tuple[int, Int64[np.ndarray, " m"] | slice, Int64[np.ndarray, " m"]]]:
    """For each shard that some rows lie in: the shard, which of the rows, and their numbers inside of it."""
    if len(rows) == 0:
        return
    lowest, highest = int(rows.min()), int(rows.max())
    if lowest < starts[0] or highest >= starts[-1]:
        raise FoundryError(f"rows must lie in {starts[0]} .. {starts[-1] - 1}, found {lowest} .. {highest}")
    first = int(starts.searchsorted(lowest, side="right")) - 1
    if highest < starts[first + 1]:  # all in one shard, as most often: no need to look at each
        yield first, slice(None), rows - starts[first]
        return
    shards = starts.searchsorted(rows, side="right") - 1
    for shard in np.unique(shards).tolist():
        chosen = np.flatnonzero(shards == shard)
        yield shard, chosen, rows[chosen] - starts[shard]


def gather(
    starts: Int64[np.ndarray, " shards_plus_1"],
    rows: Int[np.ndarray, " b"],
    array_of: Callable[[int], np.ndarray],
    out: np.ndarray,
) -> np.ndarray:
    """Fill ``out`` with rows of the shards' arrays, in the order asked for.

    Rows are in range, so that numpy need not check each (``mode="clip"`` with ``out`` copies straight into it).
    """
    for shard, chosen, local in by_shard(starts, rows):
        if isinstance(chosen, slice):
            np.take(array_of(shard), local, axis=0, out=out, mode="clip")
        else:
            out[chosen] = array_of(shard)[local]
    return out
