"""The smoke grid, trained and scored by ``foundry demo`` like everything else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.resources.store import ManifestStore
from orchestration.workspace import PROJECT_ROOT, Workspace
from tests.end_to_end.conftest import copy_of, foundry
from tests.end_to_end.dagster_client import wait_for
from training.shards import TrainingShards

POINTS = ("grid.tiny.all.original.0", "grid.tiny.all.mixed.0")


def test_every_point_is_scored_at_six_counts_and_judged_at_the_end(store: ManifestStore) -> None:
    for key in POINTS:
        rows = store.read_table("scaling_scores", key).to_pylist()
        errors = [row for row in rows if row["metric"] == "denoising_error"]
        assert [row["images_seen"] for row in errors] == [8, 16, 24, 40, 64, 96]
        assert errors[-1]["value"] < errors[0]["value"], "it has learned something in 96 images"
        assert {row["metric"] for row in rows if row["images_seen"] == 96} == {
            "denoising_error",
            "judge_cosine",
            "judge_top1",
        }
        assert all(
            row["training_gflops"] == pytest.approx(6e-9 * row["macs"] * row["images_seen"]) for row in rows
        )
        assert len({len(row["by_sample"]) for row in errors}) == 1
        assert rows[0]["hardware"]


def test_mixed_captions_name_more_than_alt_texts(store: ManifestStore) -> None:
    original, mixed = (
        store.read_table("scaling_scores", key)["image_noun_pairs"][0].as_py() for key in POINTS
    )
    assert mixed > original > 0


def test_observations_hold_the_recipes_and_the_grid(store: ManifestStore) -> None:
    table = store.read_table("scaling_observations").to_pylist()
    of_grid = [row for row in table if row["recipe"] in POINTS]
    assert len(of_grid) == 2 * (6 + 2)
    assert {row["recipe"] for row in table} - set(POINTS) == set(store.partitions("backbone"))
    assert all(row["wall_seconds"] > 0 and row["profile"] == "smoke" for row in of_grid)


def test_the_page_and_the_report_show_the_grid(store: ManifestStore) -> None:
    page = (store.local_folder("scaling_grid") / "grid.html").read_text()
    assert all(key in page for key in POINTS)
    assert "2 done." in page
    assert (store.local_folder("scaling_grid") / "learning_curves.png").stat().st_size > 1000
    assert "Points: 2 done." in (store.local_folder("report") / "report.html").read_text()


def test_the_command_shows_every_point_and_launches_nothing_twice(smoke: Workspace) -> None:
    rows = foundry(smoke, "grid", "--json").rows()
    assert [(row["grid point"], row["state"], row["images seen"]) for row in rows] == [
        (key, "done", 96) for key in POINTS
    ]
    again = foundry(smoke, "grid", "launch")
    assert again.code == 0, again.out + again.err
    assert "Every point is fresh" in again.out


@pytest.mark.slow
def test_a_launch_that_is_killed_goes_on_where_it_stopped_and_ends_equal(
    smoke: Workspace, tmp_path: Path
) -> None:
    workspace = copy_of(smoke, tmp_path)
    uninterrupted = ManifestStore(workspace.store)
    digests = {key: uninterrupted.require("scaling_run", key).digest for key in POINTS}
    for name in ("scaling_run", "scaling_scores"):
        shutil.rmtree(workspace.store / name)
    shutil.rmtree(workspace.runs)
    store = ManifestStore(workspace.store)
    assert store.partitions("scaling_run") == []

    command = [sys.executable, "-m", "orchestration.command.main", "grid", "launch"]
    launched = subprocess.Popen(
        command, cwd=PROJECT_ROOT, env={**os.environ, **workspace.environment()}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: bool(store.partitions("scaling_run")), 120, "the first point to be published")
    finally:
        os.killpg(launched.pid, signal.SIGKILL)
        launched.wait()
    trained = {path: path.stat().st_mtime_ns for path in workspace.runs.glob("*/done.json")}
    assert trained

    again = foundry(workspace, "grid", "launch")
    assert again.code == 0, again.out + again.err
    assert all(path.stat().st_mtime_ns == at for path, at in trained.items()), (
        "what was trained was trained again"
    )
    assert {key: store.require("scaling_run", key).digest for key in POINTS} == digests
    rows = foundry(workspace, "grid", "--json").rows()
    assert [row["state"] for row in rows] == ["done", "done"]


def test_launching_before_there_are_data_says_what_to_do(tmp_path: Path) -> None:
    failed = foundry(Workspace(tmp_path, "smoke", "scenes"), "grid", "launch")
    assert failed.code == 1
    assert (
        "training_shards, autoencoder, judge_clip, not materialized yet. Run `foundry demo` first"
        in failed.err
    )


def test_concepts_and_curation_are_told_in_the_shards(store: ManifestStore) -> None:
    shards = TrainingShards.open(store.local_folder("training_shards"))
    everything = shards.select(["train"])
    few = shards.select(["train"], max_concepts=4)
    assert 0 < len(few) < len(everything)
    assert set(few) <= set(everything)
    assert all(shards.samples["curated"].to_pylist()), "the smoke profile keeps nothing that curation dropped"
