"""The real webserver and daemon: runs are launched, followed, cancelled and traced as the UI does it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from assets.graph.steps import STEPS
from orchestration.catalog import partition_keys
from orchestration.command import ui
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import copy_of
from tests.end_to_end.dagster_client import (
    REPOSITORY,
    START_SCHEDULE,
    STOP_SCHEDULE,
    TERMINATE,
    DagsterClient,
    free_port,
    tags_of,
    wait_for,
)

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def smoke(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the finished smoke workspace, for what is launched and landed here changes it."""
    return copy_of(built, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def store(smoke: Workspace) -> ManifestStore:
    return ManifestStore(smoke.store)


@dataclass(frozen=True)
class Served:
    """A client of the real webserver and daemon over this file's workspace, and their process."""

    client: DagsterClient
    process: psutil.Process


@pytest.fixture(scope="module")
def served(smoke: Workspace) -> Iterator[Served]:
    port = free_port()
    before = dict(os.environ)
    os.environ.update(smoke.environment())
    server = ui.start_server(port)
    try:
        client = DagsterClient(port)
        client.wait_until_up(server)
        yield Served(client, psutil.Process(server.pid))
    finally:
        os.environ.clear()
        os.environ.update(before)
        stopped = ui.stop_server(server)
    assert stopped == 0, "webserver and daemon did not stop by themselves"


@pytest.fixture
def dagster(served: Served) -> DagsterClient:
    return served.client


@pytest.fixture
def server(served: Served) -> psutil.Process:
    return served.process


def ray_workers(server: psutil.Process) -> set[psutil.Process]:
    """Ray's worker processes of the runs that this server launched; those of other tests are none of ours."""
    found = set()
    for process in server.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("ray::" in part for part in process.cmdline()):
                found.add(process)
    return found


def test_pages_show_the_graph_with_groups_and_descriptions(dagster: DagsterClient) -> None:
    for name, step in STEPS.items():
        page = dagster.asset(name, _any_partition(name))
        assert page["groupName"] == step.group
        assert len(page["description"]) > 60


def test_terminating_a_run_stops_its_training_within_15_seconds(
    dagster: DagsterClient, server: psutil.Process, smoke: Workspace
) -> None:
    run_id = dagster.launch("train_model", ["backbone"], "unet-tiny", {"images_total": 5_000_000})
    wait_for(
        lambda: any(re.search(r"[1-9][\d,]* of 5,000,000 images", m) for m in dagster.messages(run_id)),
        120,
        "the first images",
    )
    workers = ray_workers(server)
    assert workers
    start = time.monotonic()
    dagster.ask(TERMINATE, {"id": run_id})
    wait_for(lambda: dagster.run(run_id)["status"] == "CANCELED", 15, "the run to be cancelled")
    wait_for(
        lambda: not any(_lives(worker) for worker in workers),
        15 - (time.monotonic() - start),
        "workers to leave",
    )
    stopped = [path.parent for path in smoke.runs.glob("*/progress.json") if '"stopped"' in path.read_text()]
    assert stopped, "the run folder says that it was stopped"
    assert any(list((folder / "checkpoints").iterdir()) for folder in stopped), "and kept a checkpoint"


def test_one_changed_shard_of_150_is_refreshed_and_the_dataset_follows(
    dagster: DagsterClient, smoke: Workspace, store: ManifestStore
) -> None:
    """The daemon's sensor starts a run of the shard's group, and only its sample is perceived."""
    wait_for(dagster.daemons_are_healthy, 60, "healthy daemons")
    assert len(list(smoke.landing.glob("*.parquet"))) == 150
    before = store.require("training_shards").digest
    _change_a_shard(smoke.landing)
    wait_for(
        lambda: _succeeded(dagster, "dagster/sensor_name", "landing_folder") == 1,
        120,
        "the sensor's run",
        1.0,
    )
    (run,) = dagster.runs(tags=[{"key": "dagster/sensor_name", "value": "landing_folder"}])
    group = next(tag["value"] for tag in run["tags"] if tag["key"] == "dagster/partition")
    page = dagster.asset("regions", group)["assetMaterializations"][0]
    counts = {entry["label"]: entry.get("intValue") for entry in page["metadataEntries"]}
    assert counts["units_computed"] == 1, "only the changed shard's sample was perceived"
    wait_for(lambda: _shown_version(dagster, "training_shards") != before, 120, "the dataset to follow", 1.0)


def test_a_backbone_trains_as_a_ray_task_on_the_changed_dataset_and_is_traced_back(
    dagster: DagsterClient, store: ManifestStore
) -> None:
    key = "transformer-tiny-seed1"  # from which no other model is made: what follows need not be made again
    before = store.require("backbone", key).provenance.inputs["training_shards"]
    run_id = dagster.launch("train_model", ["backbone"], key, {"images_total": 240})
    assert dagster.wait_for_end(run_id) == "SUCCESS", dagster.messages(run_id)[-5:]
    messages = dagster.messages(run_id)
    assert any("dispatched to Ray (1 CPUs, 0 GPUs)" in message for message in messages)
    assert any("240 of 240 images (100%)" in message and "loss" in message for message in messages)

    page = dagster.asset("backbone", key)
    materialization = page["assetMaterializations"][0]
    assert materialization["runId"] == run_id
    entries = {entry["label"]: entry for entry in materialization["metadataEntries"]}
    assert entries["images_seen"]["intValue"] == 240
    assert "loss_curve" in entries
    checks = {check["name"]: check for check in page["assetChecksOrError"]["checks"]}
    assert checks["finite_and_reloads"]["blocking"]
    assert checks["finite_and_reloads"]["executionForLatestMaterialization"]["status"] == "SUCCEEDED"

    tags = tags_of(materialization)
    assert tags["dagster/data_version"] == store.require("backbone", key).digest
    dataset = store.require("training_shards").digest
    assert tags["dagster/input_data_version/training_shards"] == dataset != before
    for upstream, group in (
        ("training_shards", None),
        ("recaptions", "group-00"),
        ("landed_images", "group-00"),
    ):
        found = tags_of(dagster.asset(upstream, group)["assetMaterializations"][0])
        assert found["dagster/data_version"] == store.require(upstream, group).digest


def test_the_schedules_tick_starts_runs_that_succeed_beside_a_recovery_of_a_pruned_model(
    dagster: DagsterClient, store: ManifestStore
) -> None:
    """One wait for both: the clock's next minute, and a run that trains what a pruned model has left."""
    key = "transformer-tiny-recovered"
    run_id = dagster.launch("fine_tune", ["fine_tuned_backbone"], key, {"images_total": 16})
    selector = {**REPOSITORY, "scheduleName": "data_refresh"}
    started = dagster.ask(START_SCHEDULE, {"selector": selector})["startSchedule"]
    assert started["__typename"] == "ScheduleStateResult", started
    wait_for(lambda: _of_schedule(dagster), 90, "the schedule's tick", 1.0)
    stopped = dagster.ask(STOP_SCHEDULE, {"id": dagster.schedule_state_id("data_refresh")})
    assert stopped["stopRunningSchedule"]["__typename"] == "ScheduleStateResult", stopped

    assert dagster.wait_for_end(run_id) == "SUCCESS"
    whole, recovered = store.read_table("smaller_model_scores", key).to_pylist()
    assert whole["parent"] == "backbone transformer-tiny"
    pruned = store.read_table("smaller_model_scores", "transformer-tiny-ecodiff-20").to_pylist()[1]
    assert recovered["parameters"] == pruned["parameters"] < whole["parameters"]
    assert recovered["model_digest"] != pruned["model_digest"]
    wait_for(
        lambda: _succeeded(dagster, "dagster/schedule_name", "data_refresh") >= 2,
        180,
        "the schedule's runs",
        1.0,
    )


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _of_schedule(dagster: DagsterClient) -> bool:
    return len(dagster.runs(tags=[{"key": "dagster/schedule_name", "value": "data_refresh"}])) >= 2


def _shown_version(dagster: DagsterClient, name: str) -> str:
    """Data version of the newest materialization that Dagster knows of."""
    return tags_of(dagster.asset(name)["assetMaterializations"][0])["dagster/data_version"]


def _succeeded(dagster: DagsterClient, tag: str, value: str) -> int:
    runs = dagster.runs(tags=[{"key": tag, "value": value}])
    failed = [run for run in runs if run["status"] == "FAILURE"]
    assert not failed, dagster.messages(failed[0]["runId"])[-3:]
    return sum(run["status"] == "SUCCESS" for run in runs)


def _change_a_shard(landing: Path) -> None:
    """Another scene in one of the landed shards, as a data engineer would replace it."""
    from assets.corpus.scene_landing import land_scenes
    from assets.corpus.scenes import load_world
    from orchestration.workspace import PROFILES_FOLDER

    elsewhere = landing.parent / "elsewhere"
    land_scenes(load_world(PROFILES_FOLDER / "smoke" / "world.yaml"), elsewhere, {"train": 1}, seed=99)
    (shard,) = elsewhere.glob("*.parquet")
    shard.rename(landing / "scenes-train-00003.parquet")


def _any_partition(name: str) -> str | None:
    return next(iter(partition_keys(load_profile("smoke"), name)), None)  # teachers have none there
