"""Batch work on Ray: how busy a pool is, and what each image costs beside the model.

A stand-in model of fixed latency sleeps, which costs no CPU, so that what is measured is everything else: reading the
images from Parquet, Ray's processes, handing work out and answers back. Plain Ray Data does the same work with the
same actors in the same run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from assets.graph.interfaces import BatchWorker, Resources, WorkItem
from orchestration.resources.compute import RayCompute

pytestmark = pytest.mark.benchmark
NUM_WORKERS = 2
BATCH_SIZE = 8
ROWS_PER_FILE = 256
DIFFERENT_FILES = 4
SECONDS_TO_SETTLE = 5.0
"""Ray starts processes in reserve when a pool ends."""


class StandIn:
    """Sleeps for each batch and notes when, and what CPU that took: one line a batch, one file a worker."""

    def __init__(self, notes: str, seconds: float) -> None:
        self._notes = os.open(f"{notes}/{os.getpid()}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._seconds = seconds

    def __call__(self, batch: pa.Table) -> pa.Table:
        start, cpu = time.perf_counter(), time.thread_time()
        time.sleep(self._seconds)
        cpu = time.thread_time() - cpu
        os.write(self._notes, f"{start} {time.perf_counter()} {cpu}\n".encode())
        return pa.table({"num_bytes": pc.binary_length(batch["image"])})


@dataclass(frozen=True)
class Measured:
    """One run. CPU is of this process and all below it, from the first answer to the last, without the stand-in's."""

    rows: int
    wall_seconds: float
    span_seconds: float
    busy_share: float
    cpu_ms_per_image: float

    def line(self, name: str) -> str:
        return (
            f"{name:14} busy {self.busy_share:6.1%} of {self.span_seconds:5.2f} s, wall {self.wall_seconds:5.2f} s, "
            f"{self.rows / self.span_seconds:5.0f} images/s, CPU {self.cpu_ms_per_image:.3f} ms an image"
        )


def cpu_seconds() -> dict[int, float]:
    """User and system time of this process and of each that it started, by process id."""
    seconds = {}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds[process.pid] = times.user + times.system
    return seconds


def cpu_since(before: dict[int, float]) -> float:
    """CPU seconds since then, of processes that are still there (an earlier pool's actors may just have ended)."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in cpu_seconds().items())


def measured(answers: Callable[[], Iterator[pa.Table]], notes: Path, rows: int) -> Measured:
    """Consume all answers; CPU counts from the first to the last, without what starting and ending actors takes."""
    begin = time.perf_counter()
    arriving = answers()
    first = next(arriving).num_rows
    cpu_before, cpu, others = cpu_seconds(), 0.0, 0
    for table in arriving:
        others += table.num_rows
        if first + others == rows:
            cpu = cpu_since(cpu_before)
    wall = time.perf_counter() - begin
    assert first + others == rows
    workers = [
        np.loadtxt(note, ndmin=2) for note in notes.iterdir() if note.stat().st_size
    ]  # others never worked
    span = max(times[-1, 1] for times in workers) - min(times[0, 0] for times in workers)
    busy = sum(float((times[:, 1] - times[:, 0]).sum()) for times in workers)
    stand_in = sum(float(times[:, 2].sum()) for times in workers) / rows
    return Measured(rows, wall, span, busy / (NUM_WORKERS * span), 1e3 * (cpu / others - stand_in))


def image_files(folder: Path, bytes_per_image: int, rows: int) -> list[Path]:
    """Parquet files of incompressible bytes; a few different ones under many names."""
    random = np.random.default_rng(0)
    files = []
    for index in range(rows // ROWS_PER_FILE):
        files.append(folder / f"{index}.parquet")
        if index >= DIFFERENT_FILES:
            files[-1].hardlink_to(files[index % DIFFERENT_FILES])
            continue
        images = [random.bytes(bytes_per_image) for _ in range(ROWS_PER_FILE)]
        pq.write_table(pa.table({"image": images}), files[-1], compression="none")
    return files


def read_images(file: Path) -> pa.Table:
    return pq.read_table(file, use_threads=False)


def reading_ms_per_image(files: list[Path]) -> float:
    """CPU of reading the images from Parquet, alone in this process: the floor."""
    start = time.process_time()
    rows = sum(read_images(file).num_rows for file in files)
    return 1e3 * (time.process_time() - start) / rows


def resting_share() -> float:
    """CPU seconds a second of Ray's processes while nothing is asked of them."""
    time.sleep(SECONDS_TO_SETTLE)
    before = cpu_seconds()
    time.sleep(4)
    return cpu_since(before) / 4


def notes_in(folder: Path, name: str) -> Path:
    notes = folder / name
    notes.mkdir()
    return notes


def ours(compute: RayCompute, files: list[Path], seconds: float, notes: Path) -> Iterator[pa.Table]:
    items = [WorkItem(ROWS_PER_FILE, partial(read_images, file)) for file in files]
    worker = BatchWorker(StandIn, {"notes": str(notes), "seconds": seconds})
    resources = Resources(cpus=0.5, actors=NUM_WORKERS, batch_size=BATCH_SIZE)
    yield from compute.map_shards(worker, items, resources, lambda _: None)


def read_file(paths: dict[str, np.ndarray]) -> pa.Table:
    return read_images(paths["item"][0])


def plain_ray_data(files: list[Path], seconds: float, notes: Path) -> Iterator[pa.Table]:
    """As Ray Data's guides have it: tasks read files, actors take batches; all but the named settings at their defaults."""
    import ray.data

    paths = [str(file) for file in files]
    images = ray.data.from_items(paths, override_num_blocks=len(paths)).map_batches(read_file, batch_size=1)
    dataset = images.map_batches(
        StandIn,
        fn_constructor_kwargs={"notes": str(notes), "seconds": seconds},
        batch_format="pyarrow",
        batch_size=BATCH_SIZE,
        compute=ray.data.ActorPoolStrategy(size=NUM_WORKERS),
        num_cpus=0.5,
    )
    yield from dataset.iter_batches(batch_format="pyarrow", batch_size=None)


@pytest.fixture(scope="module")
def compute() -> Iterator[RayCompute]:
    """A connected Ray whose first pool has come and gone."""
    import ray

    compute = RayCompute(cpus=2)
    items = [WorkItem(8, partial(pa.table, {"image": [b""] * 8}))] * 4
    worker = BatchWorker(StandIn, {"notes": "/tmp", "seconds": 0.0})
    assert sum(t.num_rows for t in compute.map_shards(worker, items, Resources(actors=2), print)) == 32
    yield compute
    ray.shutdown()


@pytest.mark.parametrize(
    ("milliseconds", "kilobytes", "rows"), [(20, 8, 8192), (20, 100, 8192), (100, 8, 2048)]
)
def test_busy_share_and_cost_per_image(
    compute: RayCompute, tmp_path: Path, milliseconds: int, kilobytes: int, rows: int
) -> None:
    files = image_files(notes_in(tmp_path, "images"), 1000 * kilobytes, rows)
    seconds = milliseconds / 1e3
    notes, plain_notes = notes_in(tmp_path, "ours"), notes_in(tmp_path, "plain")
    plain = measured(lambda: plain_ray_data(files, seconds, plain_notes), plain_notes, rows)
    time.sleep(SECONDS_TO_SETTLE)
    own = measured(lambda: ours(compute, files, seconds, notes), notes, rows)
    print(
        f"\n{rows:,} images of {kilobytes} KB, {milliseconds} ms a batch of {BATCH_SIZE}, {NUM_WORKERS} workers"
    )
    print(plain.line("plain Ray Data"))
    print(own.line("map_shards"))
    reading = reading_ms_per_image(files)
    resting = 1e3 * resting_share() * own.span_seconds / rows
    rest = own.cpu_ms_per_image - reading - resting
    print(
        f"of map_shards' CPU {reading:.3f} ms are reading Parquet, {resting:.3f} ms Ray at rest, {rest:.3f} ms the work"
    )
    assert own.busy_share >= 0.95
    if milliseconds == 20:
        assert rest <= 0.2
