"""A workspace that earlier code made is read as it was written, and nothing in it has become stale."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from assets.graph.interfaces import Surroundings
from assets.graph.steps import STEPS, Step
from orchestration.catalog import partition_keys
from orchestration.definitions import build, surroundings_of
from orchestration.demo import phases
from orchestration.freshness import freshness_of, verified
from orchestration.jobs import all_jobs
from orchestration.profile import Profile, load_profile
from orchestration.resources.manifests import from_json, provenance_key, to_json
from orchestration.resources.store import ManifestStore
from orchestration.workspace import PROJECT_ROOT, Workspace, workspace_from_environment
from tests.end_to_end.conftest import foundry
from tests.frozen import recipes, workspace
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.model_folders.probe import probe, reload_equals_saved
from training.recipes.specification import TrainingSpecification
from training.run_folder import RunFolder

FROZEN = workspace.read_facts()
ASSETS: Mapping[str, list[str | None]] = FROZEN["assets"]
"""The assets of the graph when the workspace was frozen, and the partitions that it holds of them."""
MEANT_TO_CHANGE: Mapping[str, str] = {
    "model_scores": "two more metrics: words as asked, words by located layers"
}
"""Assets whose results a change was meant to change since then, and what changed in a few words."""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The workspace, named by the environment; tests leave it as it is."""
    unpacked = workspace.unpack(tmp_path_factory.mktemp("frozen"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in unpacked.environment().items():
            patch.setenv(name, value)
        yield workspace_from_environment()


@pytest.fixture(scope="module")
def store(frozen: Workspace) -> ManifestStore:
    return ManifestStore(frozen.store)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile(workspace.PROFILE)


@pytest.fixture(scope="module")
def surroundings(frozen: Workspace, profile: Profile) -> Surroundings:
    return surroundings_of(frozen, profile)


@pytest.fixture(scope="module")
def assets_of_jobs(frozen: Workspace, profile: Profile) -> dict[str, set[str]]:
    """The assets that a job makes, by its name."""
    graph = build(frozen).resolve_asset_graph()
    jobs = all_jobs(profile.recipes.kinds)
    return {job.name: {key.to_user_string() for key in job.selection.resolve(graph)} for job in jobs}


@pytest.fixture
def without_later_assets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen assets read what they read then: an asset that came later is missing here and makes nothing stale."""

    def as_then(step: Step) -> Step:
        return dataclasses.replace(step, reads=tuple(name for name in step.reads if name in ASSETS))

    steps = {name: as_then(step) if name in ASSETS else step for name, step in STEPS.items()}
    for module in ("assets.graph.steps", "orchestration.catalog"):
        monkeypatch.setattr(f"{module}.STEPS", steps)


def is_frozen(name: str, partition: str | None) -> bool:
    """Whether a version is there and must stay fresh."""
    return partition in ASSETS.get(name, []) and name not in MEANT_TO_CHANGE


def test_every_version_is_what_was_written(store: ManifestStore, surroundings: Surroundings) -> None:
    found = workspace.versions(store)
    assert {manifest.name for manifest in found if store.collected(manifest)} == {workspace.COLLECTED}
    stored = [manifest for manifest in found if not store.collected(manifest)]
    assert [told for manifest in stored if (told := verified(surroundings, manifest))] == []


def test_manifests_are_written_as_they_were(frozen: Workspace) -> None:
    paths = sorted(frozen.store.glob("*/*/versions/*.json"))
    assert paths
    for path in [*paths, *sorted(frozen.store.glob("*/*/current.json"))]:
        manifest = from_json(path.read_bytes())
        assert to_json(manifest) == path.read_bytes(), path
        if path in paths:
            ending = f"-{manifest.digest[:16]}-{provenance_key(manifest.provenance)[:8]}"
            assert path.stem.endswith(ending), path


@pytest.mark.usefixtures("without_later_assets")
def test_every_partition_is_still_fresh(profile: Profile, surroundings: Surroundings) -> None:
    states = [
        freshness_of(profile, surroundings, name, key)
        for name, keys in ASSETS.items()
        for key in keys
        if is_frozen(name, key)
    ]
    stale = [f"{found.name} {found.partition}: {found.because}" for found in states if found.state != "fresh"]
    assert not stale, "\n" + "\n".join(stale)


@pytest.mark.usefixtures("without_later_assets")
def test_a_demo_of_all_models_would_launch_nothing(
    profile: Profile, surroundings: Surroundings, assets_of_jobs: dict[str, set[str]]
) -> None:
    """A job may be launched for an asset, a recipe or a change that came later, and for nothing else."""
    launches = [
        launch
        for phase in phases(profile, surroundings, train_autoencoder=False, everything=True)
        for launch in phase.launches
        if all(is_frozen(name, launch.partition) for name in assets_of_jobs[launch.job])
    ]
    assert launches == []


def test_the_demo_command_finds_everything_fresh(tmp_path: Path, profile: Profile) -> None:
    """Or it begins with what came later, as the tests before allow it, and with nothing else."""
    unpacked = workspace.unpack(tmp_path)
    wanted = phases(profile, surroundings_of(unpacked, profile), train_autoencoder=False)
    titles = [phase.title for phase in wanted if phase.launches]
    assert not titles or something_came_later(profile)
    said = said_before_a_launch(unpacked)
    begun = [line.removeprefix("running").strip() for line in said if line.startswith("running")]
    assert [line.partition(":")[0] for line in begun] == titles[:1]
    assert any("Everything is fresh" in line for line in said) == (not titles), said


def something_came_later(profile: Profile) -> bool:
    """Whether the graph has an asset or partition that is not frozen."""
    return any(not is_frozen(name, key) for name in STEPS for key in partition_keys(profile, name))


def said_before_a_launch(unpacked: Workspace) -> list[str]:
    """Lines that `foundry demo` prints, to its end or to its first launch, at which it is stopped."""
    said = []
    with subprocess.Popen(
        [sys.executable, "-m", "orchestration.command.main", "demo"],
        cwd=PROJECT_ROOT,
        env={**os.environ, **unpacked.environment()},
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        for line in command.stdout:
            said.append(line.rstrip())
            if line.startswith("running"):
                command.terminate()
                break
    return said


@pytest.mark.parametrize(("name", "key"), FROZEN["models"])
def test_models_answer_as_they_did(name: str, key: str | None, store: ManifestStore) -> None:
    folder = store.local_folder(name, key)
    assert reload_equals_saved(folder) <= 1e-4
    assert folder_digest(folder, OUTSIDE_MODEL_DIGEST) == store.require(name, key).digest


@pytest.mark.parametrize("name", ["pruned_backbone", "fine_tuned_backbone"])
def test_stock_pipelines_find_the_class_that_a_pruned_model_names(name: str, store: ManifestStore) -> None:
    """The index of a published model names a module, which can be imported for as long as there are such models."""
    (key,) = ASSETS[name]
    folder = store.local_folder(name, key)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    assert index["transformer"] == ["training.pruning.saving", "PrunedPixArtTransformer2DModel"]
    importlib.import_module(index["transformer"][0])  # pipelines take it from what is imported already
    pipeline: Any = DiffusionPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
    saved = load_file(folder / workspace.PROBE)["output"]
    torch.testing.assert_close(probe(pipeline.transformer), saved, atol=1e-4, rtol=0)


def test_runs_are_found_again(frozen: Workspace, store: ManifestStore, profile: Profile) -> None:
    """A training that is launched now goes on in the folder of the one before, whose files it can read."""
    trained = recipes.trained(profile, recipes.grid_of(profile))
    assets = {recipe.name: (asset, recipe) for asset, own in trained.items() for recipe in own.values()}
    found = set()
    for run in (RunFolder(path.parent) for path in sorted(frozen.runs.glob("*/spec.json"))):
        spec, done = run.read_spec(), run.read_done()
        asset, recipe = assets[spec.recipe.name]
        key = spec.recipe.name if STEPS[asset].partitioned_by else None
        again = TrainingSpecification(recipe=recipe, inputs=spec.inputs)
        assert again.spec_hash == run.path.name, f"{asset} {key}"
        assert set(spec.inputs) == set(recipes.INPUTS[asset])
        if asset != "judge_clip":
            assert spec.inputs["dataset"] == store.require("training_shards").digest
        assert done is not None
        assert done.model_digest == store.require(asset, key).digest
        assert run.read_execution().input_paths.keys() == spec.inputs.keys() - {"text_encoder"}
        assert run.read_progress().state == "done"
        assert run.read_metrics()["images_seen"].to_pylist()[-1] == spec.recipe.images_total
        found.add((asset, key))
    assert found == {
        (asset, key) for asset in recipes.INPUTS if asset != "autoencoder" for key in ASSETS[asset]
    }


@pytest.mark.parametrize(("name", "key"), workspace.TRACED.items())
def test_lineage_goes_back_to_the_same_shards(name: str, key: str, frozen: Workspace) -> None:
    ended = foundry(frozen, "lineage", name, key, "--json")
    assert ended.code == 0, ended.err
    lines = workspace.lineage_lines(ended.rows())
    assert lines == FROZEN["lineage"][name]
    assert any(" shard:scenes-train-" in line for line in lines)


def test_every_table_is_read_and_has_its_rows(store: ManifestStore) -> None:
    assert workspace.row_counts(store) == FROZEN["rows"]
    assert {name: store.read_all(name).num_rows for name in FROZEN["rows"]} == FROZEN["rows"]
