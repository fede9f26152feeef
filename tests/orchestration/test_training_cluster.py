"""Ray Train with two workers: a killed worker costs the work since the last checkpoint, and nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from assets.graph.interfaces import Resources
from orchestration.profile import ComputeProfile
from orchestration.resources.compute import RayCompute
from orchestration.resources.training_cluster import RAY_FOLDER
from tests.orchestration.test_compute import digest_of, run_folder
from tests.training.killing import newest
from tests.training.teams import fork, train_part
from training.errors import FoundryError
from training.run_folder import RunFolder, prepare

IMAGES, EVERY = 320, 16


def shared_run(root: Path, world_size: int = 2, images: int = IMAGES) -> RunFolder:
    """A run for several workers that keeps all of its checkpoints."""
    folder = run_folder(root, images)
    settings = {"world_size": world_size, "checkpoint_every_images": EVERY, "keep_checkpoints": 100}
    return prepare(root / "runs", folder.read_spec(), folder.read_execution().model_copy(update=settings))


def own_worker() -> psutil.Process | None:
    """A process of Ray Train below this one, None while there is none."""
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter(["name"]):
        if process.pid in own and "RayTrainWorker" in (process.info["name"] or ""):
            return process
    return None


def test_two_workers_train_as_two_processes_do(ray_compute: RayCompute, tmp_path: Path) -> None:
    alone, on_ray = shared_run(tmp_path / "alone", images=64), shared_run(tmp_path / "ray", images=64)
    fork(train_part, alone.path)
    said: list[str] = []
    ray_compute.train(on_ray.path, Resources(), said.append)
    assert digest_of(on_ray) == digest_of(alone)
    assert any(line.startswith("dispatched to Ray (2 workers of 1 CPUs, 0 GPUs)") for line in said)
    assert not (on_ray.path / RAY_FOLDER).exists()


@pytest.mark.slow
def test_a_killed_worker_costs_the_work_since_the_last_checkpoint(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    whole, killed = shared_run(tmp_path / "whole"), shared_run(tmp_path / "killed")
    fork(train_part, whole.path)
    said: list[str] = []
    found: dict[str, Any] = {}

    def kill_a_worker() -> None:
        while (worker := own_worker()) is None:
            time.sleep(0.1)
        while newest(killed) < 2 * EVERY:
            time.sleep(0.005)
        found["reached"], found["saved"] = killed.read_progress().images_seen, newest(killed)
        worker.kill()
        found["written"] = {path: path.stat().st_mtime_ns for path in killed.checkpoints.glob("[0-9]*")}

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    ray_compute.train(killed.path, Resources(), said.append)
    killer.join()
    assert digest_of(killed) == digest_of(whole)
    assert found["saved"] < IMAGES, "it was killed too late for this test to say anything"
    assert found["reached"] - found["saved"] <= 2 * EVERY
    written = {path: path.stat().st_mtime_ns for path in found["written"]}
    assert written == found["written"], "what had been saved was done again"
    assert not (killed.path / RAY_FOLDER).exists()


def test_more_workers_than_there_is_room_for_are_refused(ray_compute: RayCompute, tmp_path: Path) -> None:
    with pytest.raises(
        FoundryError, match="room for 2 workers of 1 CPUs and 0 GPUs, this training asks for 3"
    ):
        ray_compute.train(shared_run(tmp_path, 3).path, Resources(), lambda _: None)
    with pytest.raises(ValueError, match="'workers_per_training' is 3, above the 2 'cpus'"):
        ComputeProfile(workers_per_training=3)
    with pytest.raises(ValueError, match="mode inline has one process"):
        ComputeProfile(mode="inline", workers_per_training=2)
