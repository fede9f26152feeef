"""Pools of actors on real Ray: each row once although workers die, one model a worker, bounded memory, clear errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from assets.derivation.worker_errors import DeadlyRows
from assets.graph.interfaces import BatchWorker, Resources, WorkItem
from orchestration.resources.chunking import plan_pieces
from orchestration.resources.compute import InlineCompute, RayCompute
from orchestration.resources.pool_messages import WorkerFailed
from tests.end_to_end.dagster_client import wait_for
from tests.orchestration.pool_workers import (
    broken_build,
    broken_load,
    calls,
    deadly_build,
    items_of,
    noted_load,
    worker,
)
from training.errors import FoundryError

TWO = Resources(cpus=1.0, actors=2, batch_size=8)


def quiet(_: str) -> None:
    """A log that nobody reads."""


def values_of(tables: Iterator[pa.Table]) -> list[int]:
    return sorted(value for table in tables for value in table["value"].to_pylist())


def test_a_worker_loads_its_model_once_and_calls_it_in_one_thread(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    """Both workers take every CPU of the cluster, and nothing starves."""
    said: list[str] = []
    answers = ray_compute.map_shards(worker(tmp_path, seconds=0.01), items_of(400, 90), TWO, said.append)
    rows = pa.concat_tables(answers)
    assert sorted(rows["value"].to_pylist()) == list(range(400))
    assert all(rows["same_thread"].to_pylist())
    assert len(set(rows["pid"].to_pylist())) == 2
    assert len(list(tmp_path.glob("build-*"))) == 2
    assert sorted(calls(tmp_path)) == list(range(400))
    assert said[-1].startswith("400 rows in ")
    assert len(said) <= 2 + int(float(said[-1].split()[3]) / 5)


def test_items_are_loaded_in_the_workers_and_not_for_each_batch(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    items = [WorkItem(16, partial(noted_load, tmp_path, start, 16)) for start in range(0, 320, 16)]
    assert values_of(ray_compute.map_shards(worker(tmp_path), items, TWO, quiet)) == list(range(320))
    loads = [len(note.read_text().split()) for note in tmp_path.glob("load-*")]
    assert len(loads) == 20
    spans = [span for piece in plan_pieces([16] * 20, TWO.batch_size, TWO.actors) for span in piece]
    assert sum(loads) <= len(spans) < 40, "once for each part that travels, and not for each batch"
    here = {note.read_text().split()[0] for note in tmp_path.glob("load-*")}
    assert str(psutil.Process().pid) not in here


def test_a_worker_killed_in_the_middle_costs_no_row_and_repeats_none(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    killed = worker(tmp_path, deadly_once=[137], seconds=0.01)
    assert values_of(ray_compute.map_shards(killed, items_of(400, 100), TWO, quiet)) == list(range(400))
    assert len(list(tmp_path.glob("build-*"))) == 3
    again = len(calls(tmp_path)) - 400
    assert 0 < again <= 2 * 64, "only what the dead worker had in hand is done again"


@pytest.mark.slow
def test_a_row_that_kills_every_worker_is_found_and_all_others_are_answered(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    said: list[str] = []
    answered: list[int] = []
    answers = ray_compute.map_shards(worker(tmp_path, deadly=[41]), items_of(200, 100), TWO, said.append)
    with pytest.raises(DeadlyRows, match="1 row.*'value': 41") as caught:
        answered.extend(value for table in answers for value in table["value"].to_pylist())
    assert caught.value.rows["value"].to_pylist() == [41]
    assert sorted(answered) == [value for value in range(200) if value != 41]
    assert calls(tmp_path).count(41) == 6, "a worker and its heir, with the piece, the batch and alone"
    assert sum("workers died with" in line for line in said) == 2


@pytest.mark.slow
def test_workers_that_always_die_are_given_up_soon(ray_compute: RayCompute, tmp_path: Path) -> None:
    broken = worker(tmp_path, deadly=range(400))
    with pytest.raises(FoundryError, match="die again and again.*0 were answered"):
        list(ray_compute.map_shards(broken, items_of(400, 100), TWO, quiet))
    assert len(list(tmp_path.glob("build-*"))) <= 20


@pytest.mark.slow
def test_a_model_whose_loading_kills_its_worker_is_given_up(ray_compute: RayCompute) -> None:
    with pytest.raises(FoundryError, match="die while deadly_build is built"):
        list(ray_compute.map_shards(BatchWorker(deadly_build), items_of(100, 50), TWO, quiet))


@pytest.mark.parametrize("compute_name", ["inline", "ray"])
def test_errors_of_loads_and_models_reach_the_caller(
    compute_name: str, ray_compute: RayCompute, tmp_path: Path
) -> None:
    compute = InlineCompute() if compute_name == "inline" else ray_compute
    with pytest.raises(FoundryError, match="^the model folder has no config.json$"):
        list(compute.map_shards(BatchWorker(broken_build), items_of(100, 50), TWO, quiet))
    with pytest.raises(FoundryError, match="^the table 'images' is damaged$"):
        list(compute.map_shards(worker(tmp_path), [WorkItem(5, broken_load)], TWO, quiet))
    with pytest.raises((ValueError, WorkerFailed), match=r"cannot look at \[7\]"):
        list(compute.map_shards(worker(tmp_path, raises=[7]), items_of(100, 50), TWO, quiet))


def test_an_impossible_request_ends_at_once_with_a_sentence(ray_compute: RayCompute, tmp_path: Path) -> None:
    (tmp_path / "execution.json").write_text("{}")
    start = time.monotonic()
    impossible = [Resources(gpus=1, actors=2), Resources(cpus=64)]
    for resources in impossible:
        with pytest.raises(FoundryError, match="No machine of the Ray cluster has.*Lower `cpus` or `gpus`"):
            list(ray_compute.map_shards(worker(tmp_path), items_of(100, 50), resources, quiet))
        with pytest.raises(FoundryError, match="2 CPUs and 0 GPUs"):
            ray_compute.train(tmp_path, resources, quiet)
    assert time.monotonic() - start < 20


def test_more_workers_than_there_is_room_for_are_fewer_workers(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    said: list[str] = []
    many = Resources(cpus=1.0, actors=5, batch_size=8)
    assert values_of(ray_compute.map_shards(worker(tmp_path), items_of(100, 50), many, said.append)) == list(
        range(100)
    )
    assert "Ray has room for 2 of 5 workers" in said


def test_answers_larger_than_the_shared_memory_wait_for_a_slow_reader(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    """240 MB through 80 MB of shared memory: work pauses while nobody takes the answers."""
    items = items_of(2400, 64, bytes_per_row=100_000)
    small_batches = Resources(cpus=1.0, actors=2, batch_size=2)
    answers = ray_compute.map_shards(worker(tmp_path, echo=True), items, small_batches, quiet)
    before = psutil.Process().memory_info().rss
    values = next(answers)["value"].to_pylist()
    time.sleep(3)
    waiting = len(calls(tmp_path))
    most = 0
    for table in answers:
        values += table["value"].to_pylist()
        most = max(most, psutil.Process().memory_info().rss - before)
    assert sorted(values) == list(range(2400))
    assert waiting < 1800, "the pool ran ahead of its reader"
    assert most < 150 * 2**20


def test_leaving_in_the_middle_ends_the_pool(ray_compute: RayCompute, tmp_path: Path) -> None:
    answers = ray_compute.map_shards(worker(tmp_path, seconds=0.05), items_of(4000, 100), TWO, quiet)
    pids = set(next(iter(answers))["pid"].to_pylist())
    answers.close()  # type: ignore[attr-defined]
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), 30, "the actors to end")
    assert len(calls(tmp_path)) < 2000
