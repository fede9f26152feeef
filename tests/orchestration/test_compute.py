"""The compute resource on real Ray: same results as in this process, progress while it runs, resume after a kill."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from assets.graph.interfaces import BatchFunction, BatchWorker, Resources, WorkItem
from orchestration.resources.compute import MOST_LOADED, InlineCompute, RayCompute
from orchestration.workspace import PROJECT_ROOT
from tests.end_to_end.dagster_client import free_port, wait_for
from training.digests import folder_digest
from training.errors import FoundryError, TrainingFailed
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run_folder import RunFolder, prepare
from training.shards import write_image_shards


def run_folder(root: Path, images_total: int = 64) -> RunFolder:
    """A tiny autoencoder training, ready to run."""
    random = np.random.default_rng(0)
    dataset = root / "dataset"
    samples = pa.table({"sample_id": [f"s{i}" for i in range(16)], "split": ["train"] * 16})
    write_image_shards(dataset, samples, random.integers(0, 255, (16, 16, 16, 3), np.uint8))
    recipe = load_recipe(
        {
            "name": "tiny",
            "objective": "autoencoder",
            "images_total": images_total,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "autoencoder": {"block_channels": [8, 8], "latent_channels": 4},
        }
    )
    spec = TrainingSpecification(recipe=recipe, inputs={"dataset": folder_digest(dataset)})
    execution = Execution(
        log_every_images=8, checkpoint_every_images=64, input_paths={"dataset": str(dataset)}
    )
    return prepare(root / "runs", spec, execution)


def digest_of(run: RunFolder) -> str:
    done = run.read_done()
    assert done is not None
    return done.model_digest


def test_ray_and_inline_make_the_same_model_and_tell_how_it_goes(
    ray_compute: RayCompute, tmp_path: Path
) -> None:
    inline, on_ray = run_folder(tmp_path / "inline"), run_folder(tmp_path / "ray")
    said: list[str] = []
    InlineCompute().train(inline.path, Resources(), said.append)
    ray_compute.train(on_ray.path, Resources(), said.append)
    assert digest_of(inline) == digest_of(on_ray)
    assert sum("64 of 64 images (100%)" in line for line in said) == 2
    assert any(line.startswith("dispatched to Ray (1 CPUs, 0 GPUs)") for line in said)


@pytest.mark.slow
def test_a_killed_driver_leaves_a_run_that_ends_bit_equal(ray_compute: RayCompute, tmp_path: Path) -> None:
    whole, killed = run_folder(tmp_path / "whole", 1600), run_folder(tmp_path / "killed", 1600)
    InlineCompute().train(whole.path, Resources(), lambda _: None)
    code = (
        "import sys; from pathlib import Path; from assets.graph.interfaces import Resources\n"
        "from orchestration.resources.compute import RayCompute\n"
        "RayCompute(cpus=1).train(Path(sys.argv[1]), Resources(), lambda _: None)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(killed.path)], cwd=PROJECT_ROOT)
    wait_for(lambda: any(killed.checkpoints.iterdir()), 60, "a first checkpoint")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert killed.read_done() is None, "it was killed too late for this test to say anything"
    _train_when_free(ray_compute, killed)
    assert digest_of(killed) == digest_of(whole)


def _train_when_free(compute: RayCompute, run: RunFolder) -> None:
    """Train again as soon as the killed driver's worker has let go of the folder."""

    def trained() -> bool:
        try:
            compute.train(run.path, Resources(), lambda _: None)
        except TrainingFailed as error:
            if "another process" in str(error):
                return False
            raise
        return True

    wait_for(trained, 60, "the run folder to be free")


def test_a_failed_training_says_what_the_run_said(ray_compute: RayCompute, tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    (tmp_path / "dataset" / "images.npy").unlink()
    with pytest.raises(TrainingFailed, match="dataset"):
        ray_compute.train(run.path, Resources(), lambda _: None)


def test_an_absent_cluster_is_named_with_its_remedy(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from assets.graph.interfaces import Resources\n"
        "from orchestration.resources.compute import RayCompute\n"
        "from training.errors import FoundryError\n"
        "try:\n    RayCompute(1, '127.0.0.1:1').train(Path('.'), Resources(), print)\n"
        "except FoundryError as error:\n    print('SENTENCE', error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "No Ray cluster answers at '127.0.0.1:1'" in run.stdout
    assert "RAY_AUTH_MODE" in run.stdout


def test_a_cluster_by_address_makes_the_same_model(tmp_path: Path) -> None:
    """A head node of its own process, as an operator starts it; both sides agree on the authentication mode."""
    inline, on_cluster = run_folder(tmp_path / "inline"), run_folder(tmp_path / "cluster")
    InlineCompute().train(inline.path, Resources(), lambda _: None)
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    port = free_port()
    ray_command = Path(sys.executable).with_name("ray")
    head = subprocess.Popen(
        [
            ray_command,
            "start",
            "--head",
            "--block",
            f"--port={port}",
            "--num-cpus=1",
            "--include-dashboard=false",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    code = (
        "import sys; from pathlib import Path; from assets.graph.interfaces import Resources\n"
        "from orchestration.resources.compute import RayCompute\n"
        "RayCompute(1, sys.argv[2]).train(Path(sys.argv[1]), Resources(), lambda _: None)\n"
    )
    try:
        wait_for(lambda: _listens(port), 60, "the head node")
        command = [sys.executable, "-c", code, str(on_cluster.path), f"127.0.0.1:{port}"]
        subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=True, timeout=120)
    finally:
        head.terminate()
        head.wait(30)
    assert digest_of(on_cluster) == digest_of(inline)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


BUILDS = itertools.count()


class Doubler:
    """A batch function that doubles, and says in which process."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.build = next(BUILDS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        values = np.asarray(batch["value"]) * self.factor
        count = len(values)
        return pa.table({"value": values, "threads": [_threads()] * count, "build": [self.build] * count})


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def build_doubler(factor: int) -> BatchFunction:
    return Doubler(factor)


def numbers(start: int, stop: int) -> pa.Table:
    return pa.table({"value": list(range(start, stop))})


def test_actor_pools_work_on_every_row_exactly_once(ray_compute: RayCompute) -> None:
    items = [WorkItem(40, partial(numbers, start, start + 40)) for start in (0, 40, 80)]
    worker = BatchWorker(build_doubler, {"factor": 2})
    for compute in (InlineCompute(), ray_compute, RayCompute(2, inline_rows=1000)):
        rows = pa.concat_tables(compute.map_shards(worker, items, Resources(actors=2, batch_size=16), print))
        assert sorted(rows["value"].to_pylist()) == [2 * value for value in range(120)]
        assert set(rows["threads"].to_pylist()) == {1}


def test_a_ray_that_died_is_replaced(ray_compute: RayCompute) -> None:
    items, worker = [WorkItem(40, partial(numbers, 0, 40))], BatchWorker(build_doubler, {"factor": 2})

    def doubled() -> list[int]:
        tables = list(ray_compute.map_shards(worker, items, Resources(), print))
        return sorted(value for table in tables for value in table["value"].to_pylist())

    expected = doubled()
    (raylet,) = (child for child in psutil.Process().children() if child.name() == "raylet")
    raylet.kill()
    wait_for(lambda: raylet.status() == psutil.STATUS_ZOMBIE, 10, "the raylet to end")
    assert doubled() == expected
    assert raylet not in psutil.Process().children()


def test_light_work_stays_in_this_process(ray_compute: RayCompute) -> None:
    items, worker = [WorkItem(40, partial(numbers, 0, 40))], BatchWorker(build_doubler, {"factor": 2})
    for light, is_dispatched in ((40, False), (39, True)):
        said: list[str] = []
        found = ray_compute.map_shards(worker, items, Resources(inline_rows=light), said.append)
        assert sum(table.num_rows for table in found) == 40
        assert any("dispatched" in line for line in said) == is_dispatched
    with pytest.raises(FoundryError, match="GPU"):
        list(ray_compute.map_shards(worker, items, Resources(inline_rows=1000, gpus=1), print))


def test_small_models_stay_loaded_and_the_oldest_goes() -> None:
    compute, items = InlineCompute(), [WorkItem(4, partial(numbers, 0, 4))]

    def built(factor: int, *, keep: bool) -> set[int]:
        worker = BatchWorker(build_doubler, {"factor": factor})
        found = list(compute.map_shards(worker, items, Resources(keep_loaded=keep), print))
        return {number for table in found for number in table["build"].to_pylist()}

    first = built(2, keep=True)
    assert built(2, keep=True) == first
    assert built(2, keep=False) != first
    assert built(3, keep=True) != first
    for factor in range(10, 10 + MOST_LOADED):
        built(factor, keep=True)
    assert built(2, keep=True) != first


def test_no_rows_need_no_cluster() -> None:
    assert (
        list(RayCompute(2, "nowhere:1").map_shards(BatchWorker(build_doubler), [], Resources(), print)) == []
    )


def test_a_users_mistake_in_a_worker_is_not_lost() -> None:
    with pytest.raises(FoundryError, match="no run folder|cannot be read|spec.json"):
        InlineCompute().train(Path("/nowhere/run"), Resources(), print)
