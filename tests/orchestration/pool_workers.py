"""Batch functions and loads for tests of pools; module-level, so that they travel to actors by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.graph.interfaces import BatchFunction, BatchWorker, WorkItem
from tests.assets.workers import CountingCaptioner
from training.errors import FoundryError


def numbers(start: int, num_rows: int, bytes_per_row: int = 0) -> pa.Table:
    """Rows (value, payload) with values from ``start`` on."""
    payload = [b"x" * bytes_per_row] * num_rows
    return pa.table({"value": list(range(start, start + num_rows)), "payload": payload})


def items_of(total: int, rows_per_item: int, bytes_per_row: int = 0) -> list[WorkItem]:
    """``total`` rows as work items."""
    starts = range(0, total, rows_per_item)
    sizes = [min(rows_per_item, total - start) for start in starts]
    return [
        WorkItem(size, partial(numbers, start, size, bytes_per_row))
        for start, size in zip(starts, sizes, strict=True)
    ]


def noted_load(folder: Path, start: int, num_rows: int) -> pa.Table:
    """As :func:`numbers`, and a line for each time it is loaded."""
    with (folder / f"load-{start}").open("a") as notes:
        notes.write(f"{os.getpid()}\n")
    return numbers(start, num_rows)


def broken_load() -> pa.Table:
    """A load that tells the user what to mend."""
    raise FoundryError("the table 'images' is damaged")


class Worker:
    """Echoes values; notes each build and call; ends its process, raises or waits where told to.

    ``deadly_once`` values end the process when they are seen for the first time, ``deadly`` ones each time.
    """

    def __init__(
        self,
        folder: Path,
        deadly: Sequence[int] = (),
        deadly_once: Sequence[int] = (),
        raises: Sequence[int] = (),
        seconds: float = 0.0,
        echo: bool = False,
    ) -> None:
        self._folder = folder
        self._deadly, self._deadly_once, self._raises = set(deadly), set(deadly_once), set(raises)
        self._seconds = seconds
        self._echo = echo
        self._thread = threading.get_ident()
        (folder / f"build-{os.getpid()}-{time.monotonic_ns()}").touch()

    def __call__(self, batch: pa.Table) -> pa.Table:
        values = set(batch["value"].to_pylist())
        (self._folder / f"call-{os.getpid()}-{time.monotonic_ns()}").write_text("\n".join(map(str, values)))
        if values & self._deadly or any(self._first_sight(value) for value in values & self._deadly_once):
            os.kill(os.getpid(), signal.SIGKILL)
        if values & self._raises:
            raise ValueError(f"cannot look at {sorted(values & self._raises)}")
        time.sleep(self._seconds)
        same = [threading.get_ident() == self._thread] * batch.num_rows
        columns = {"value": batch["value"], "pid": [os.getpid()] * batch.num_rows, "same_thread": same}
        return pa.table({**columns, "payload": batch["payload"]} if self._echo else columns)

    def _first_sight(self, value: int) -> bool:
        try:
            (self._folder / f"seen-{value}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def broken_build() -> BatchFunction:
    """A model that cannot be loaded."""
    raise FoundryError("the model folder has no config.json")


def deadly_build() -> BatchFunction:
    """A model that does not fit."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody comes here")


class SlowCaptioner(CountingCaptioner):
    """Takes its time, and dies on some samples."""

    def __init__(self, calls: str, seconds: float = 0.0, deadly: Sequence[str] = (), **options: Any) -> None:
        super().__init__(calls, **options)
        self._seconds, self._deadly = seconds, set(deadly)

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self._deadly.intersection(batch["sample_id"].to_pylist()):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._seconds)
        return super().__call__(batch)


def worker(folder: Path, **settings: object) -> BatchWorker:
    """A :class:`Worker` that keeps its notes in ``folder``."""
    return BatchWorker(Worker, {"folder": folder, **settings})


def calls(folder: Path) -> list[int]:
    """Every value of every call, once for each time it was worked on."""
    return [int(line) for note in folder.glob("call-*") for line in note.read_text().split()]
