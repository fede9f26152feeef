"""Runs of the grid: weights kept at every scored count, progress told, scores from the kept weights alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assets.graph.interfaces import Models, Resources
from assets.graph.model_kinds import ModelRecipes
from assets.graph.versions import Provenance
from assets.scaling.points import input_digests, parameters_of, planned, run_folder_of
from assets.scaling.progress import grid_rows, totals
from assets.scaling.runs import read_cost, snapshot_path, train_point
from orchestration.grid import largest_first
from orchestration.profile import load_profile
from orchestration.resources.compute import InlineCompute
from orchestration.resources.store import ManifestStore
from tests.assets.scaling.makers import COUNTS, small_grid
from tests.training.conftest import autoencoder_folder, shards_folder  # noqa: F401 (fixtures)
from training.errors import FoundryError
from training.recipes.grid import scored_counts
from training.recipes.text_encoder import EncoderSettings
from training.run_folder import Progress

KEY = "grid.tiny.all.mixed.0"


@pytest.fixture
def models(tmp_path: Path) -> Models:
    profile = load_profile("smoke")
    return Models(
        ModelRecipes("smoke"),
        profile.judge,
        profile.autoencoder,
        tmp_path / "runs",
        Resources(),
        grid=small_grid(),
    )


@pytest.fixture
def store(tmp_path: Path, shards_folder: Path, autoencoder_folder: Path) -> ManifestStore:  # noqa: F811
    store = ManifestStore(tmp_path / "store")
    store.publish_folder("training_shards", shards_folder, Provenance("training_shards", 1))
    store.publish_folder("autoencoder", autoencoder_folder, Provenance("autoencoder", 1))
    return store


def test_weights_are_kept_at_every_count_and_again_when_counts_change(
    models: Models, store: ManifestStore
) -> None:
    digests = input_digests(store, EncoderSettings())
    assert digests is not None
    digests = {name: value for name, value in digests.items() if name != "text_encoder"}
    paths = {
        "dataset": store.local_folder("training_shards"),
        "autoencoder": store.local_folder("autoencoder"),
    }
    plan = planned(models, KEY)
    assert plan.counts == COUNTS
    said: list[str] = []
    run = train_point(plan, digests, paths, models, InlineCompute(), said.append)
    kept = {path.name for path in run.folder.snapshots.iterdir() if path.is_dir()}
    assert kept == {snapshot_path(run.folder.snapshots, count).name for count in COUNTS}
    cost = read_cost(run.folder.snapshots)
    seconds = [cost.seconds_at[count] for count in COUNTS]
    assert np.all(np.diff(seconds) >= 0)
    assert seconds[-1] == pytest.approx(run.done.train_seconds, abs=0.01)
    assert "thread" in cost.hardware
    other = train_point(
        replace(plan, counts=(8, 16, 24, 32, 48, 96)), digests, paths, models, InlineCompute(), said.append
    )
    assert any("kept no weights at [32, 48]" in line for line in said)
    assert other.done.model_digest == run.done.model_digest, "trained again to the same weights"
    assert not snapshot_path(other.folder.snapshots, 40).exists(), "what is no longer asked for goes"


def test_progress_tells_waiting_running_and_failed_points_apart(models: Models, store: ManifestStore) -> None:
    digests = input_digests(store, EncoderSettings())
    assert digests is not None
    states = {
        "grid.tiny.all.mixed.0": Progress(
            state="running", images_seen=48, images_total=96, images_per_second=24.0, seconds_left=2.0
        ),
        "grid.tiny.all.mixed.1": Progress(state="failed", images_seen=8, images_total=96, error="no disk"),
        "grid.tiny.all.mixed.2": Progress(state="stopped", images_seen=16, images_total=96),
    }
    for key, progress in states.items():
        folder = run_folder_of(models, planned(models, key).recipe, digests)
        folder.path.mkdir(parents=True)
        folder.write_progress(progress)
    rows = {row.name: row for row in grid_rows(store, models)}
    assert totals(rows.values()) == {"waiting": 3, "running": 1, "failed": 1, "stopped": 1}
    running = rows["grid.tiny.all.mixed.0"]
    assert (running.images_seen, running.seconds, running.seconds_left) == (48, 2.0, 2.0)
    assert rows["grid.tiny.all.mixed.1"].error == "no disk"


def test_before_there_are_data_every_point_waits(models: Models, tmp_path: Path) -> None:
    rows = grid_rows(ManifestStore(tmp_path / "empty"), models)
    assert totals(rows) == {"waiting": 6}


def test_a_point_that_is_not_there_is_said(models: Models) -> None:
    with pytest.raises(FoundryError, match="no point 'grid.x'"):
        planned(models, "grid.x")
    with pytest.raises(FoundryError, match="has no scaling grid"):
        planned(replace(models, grid=None), KEY)


def test_several_points_are_launched_largest_first_and_one_is_not_weighed() -> None:
    profile = load_profile("demo")
    parameters_of.cache_clear()
    assert largest_first(profile, profile.grid_keys[-1:]) == profile.grid_keys[-1:]
    assert parameters_of.cache_info().misses == 0
    ordered = largest_first(profile, profile.grid_keys)
    assert sorted(ordered) == sorted(profile.grid_keys)
    assert profile.grid is not None
    sizes = [parameters_of(profile.grid.sizes[profile.grid.points[key].size].backbone) for key in ordered]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1


@pytest.mark.parametrize("profile", ["smoke", "demo", "gpu"])
def test_shipped_grids_are_sound(profile: str) -> None:
    """Pairs are equal within their bound, and every point is scored at six counts or more."""
    from assets.scaling.points import macs_of, parameters_of
    from training.recipes.grid import check_pairs

    grid = load_profile(profile).grid
    assert grid is not None
    check_pairs(grid, parameters_of)
    for point in grid.points.values():
        assert len(scored_counts(grid, point, macs_of)) >= 6
