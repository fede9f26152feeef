"""The real webserver and daemon: runs are launched, followed, cancelled and traced as the UI does it."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from assets.steps import STEPS
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.dagster_client import DagsterClient, tags_of, wait_for

pytestmark = pytest.mark.timeout(420)


def ray_workers() -> list[psutil.Process]:
    """Ray worker processes on this machine."""
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if any("ray::" in part for part in process.info["cmdline"] or [])
    ]


def test_pages_show_the_graph_with_groups_and_descriptions(dagster: DagsterClient) -> None:
    for name, step in STEPS.items():
        page = dagster.asset(name, _any_partition(name))
        assert page["groupName"] == step.group
        assert len(page["description"]) > 60


def test_a_backbone_partition_trains_as_a_ray_task_and_is_traced_back(
    dagster: DagsterClient, store: ManifestStore
) -> None:
    run_id = dagster.launch("train_model", ["backbone"], "transformer-tiny", {"images_total": 240})
    assert dagster.wait_for_end(run_id) == "SUCCESS", dagster.messages(run_id)[-5:]
    messages = dagster.messages(run_id)
    assert any("dispatched to Ray (1 CPUs, 0 GPUs)" in message for message in messages)
    assert any("240 of 240 images (100%)" in message and "loss" in message for message in messages)

    page = dagster.asset("backbone", "transformer-tiny")
    materialization = page["assetMaterializations"][0]
    assert materialization["runId"] == run_id
    entries = {entry["label"]: entry for entry in materialization["metadataEntries"]}
    assert entries["images_seen"]["intValue"] == 240
    assert "loss_curve" in entries
    checks = {check["name"]: check for check in page["assetChecksOrError"]["checks"]}
    assert checks["finite_and_reloads"]["blocking"]
    assert checks["finite_and_reloads"]["executionForLatestMaterialization"]["status"] == "SUCCEEDED"

    tags = tags_of(materialization)
    assert tags["dagster/data_version"] == store.require("backbone", "transformer-tiny").digest
    assert tags["dagster/input_data_version/training_shards"] == store.require("training_shards").digest
    upstream, key = "training_shards", None
    for upstream, key in (
        ("training_shards", None),
        ("recaptions", "group-00"),
        ("landed_images", "group-00"),
    ):
        found = tags_of(dagster.asset(upstream, key)["assetMaterializations"][0])
        assert found["dagster/data_version"] == store.require(upstream, key).digest
    assert (upstream, key) == ("landed_images", "group-00")
    restored = dagster.launch("train_model", ["backbone"], "transformer-tiny")
    assert dagster.wait_for_end(restored) == "SUCCESS"


def test_terminating_a_run_stops_its_training_within_15_seconds(
    dagster: DagsterClient, smoke: Workspace
) -> None:
    before = {process.pid for process in ray_workers()}
    run_id = dagster.launch("train_model", ["backbone"], "unet-tiny", {"images_total": 5_000_000})
    wait_for(
        lambda: any("of 5,000,000 images" in m for m in dagster.messages(run_id)),
        120,
        "the training to start",
    )
    assert {process.pid for process in ray_workers()} - before
    start = time.monotonic()
    dagster.ask(
        "mutation T($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename } }",
        {"id": run_id},
    )
    wait_for(lambda: dagster.run(run_id)["status"] == "CANCELED", 15, "the run to be cancelled")
    wait_for(
        lambda: not {p.pid for p in ray_workers()} - before,
        15 - (time.monotonic() - start),
        "workers to leave",
    )
    stopped = [path.parent for path in smoke.runs.glob("*/progress.json") if '"stopped"' in path.read_text()]
    assert stopped, "the run folder says that it was stopped"
    assert any(list((folder / "checkpoints").iterdir()) for folder in stopped), "and kept a checkpoint"


def test_a_new_shard_is_refreshed_by_sensor_schedule_and_conditions(
    dagster: DagsterClient, smoke: Workspace, store: ManifestStore
) -> None:
    """The daemon ticks: a new shard starts a run of its group, and the dataset follows by its condition."""
    wait_for(dagster.daemons_are_healthy, 60, "healthy daemons")
    before = store.require("training_shards").digest
    known = set(store.read_all("recaptions", ["sample_id"])["sample_id"].to_pylist())
    _land_another_shard(smoke.landing)
    wait_for(lambda: _succeeded(dagster, "landing_folder") > 0, 120, "the sensor's run")
    perceived = set(store.read_all("recaptions", ["sample_id"])["sample_id"].to_pylist()) - known
    assert len(perceived) == 6
    latest = [
        dagster.asset("recaptions", key)["assetMaterializations"][0] for key in ("group-00", "group-01")
    ]
    counts = [
        {entry["label"]: entry.get("intValue") for entry in materialization["metadataEntries"]}
        for materialization in latest
    ]
    assert any(count["images_perceived"] == 6 for count in counts), "only the new samples were perceived"
    wait_for(lambda: store.require("training_shards").digest != before, 120, "the dataset to follow")


def _succeeded(dagster: DagsterClient, sensor: str) -> int:
    runs = dagster.runs(tags=[{"key": "dagster/sensor_name", "value": sensor}])
    failed = [run for run in runs if run["status"] == "FAILURE"]
    assert not failed, dagster.messages(failed[0]["runId"])[-3:]
    return sum(run["status"] == "SUCCESS" for run in runs)


def _land_another_shard(landing: Path) -> None:
    """Six new scenes as a shard of their own, as a data engineer would drop it."""
    from assets.corpus.scene_landing import land_scenes
    from assets.corpus.scenes import load_world
    from orchestration.workspace import PROFILES_FOLDER

    elsewhere = landing.parent / "elsewhere"
    land_scenes(load_world(PROFILES_FOLDER / "smoke" / "world.yaml"), elsewhere, {"train": 6}, seed=99)
    (shard,) = elsewhere.glob("*.parquet")
    shard.rename(landing / "dropped-00000.parquet")


def _any_partition(name: str) -> str | None:
    return {"groups": "group-00", "recipes": "unet-tiny", None: None}[STEPS[name].partitioned_by]
