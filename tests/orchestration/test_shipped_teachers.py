"""Shipped teachers as assets: published with their autoencoder by a real run, refused beside another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.graph.versions import Provenance
from orchestration.definitions import build
from orchestration.instance import open_instance
from orchestration.launching import Launch, run_launch
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from training.model_folders.teachers import read_scores
from training.packaged_models import SHIPPED_AUTOENCODER, SHIPPED_AUTOENCODER_DIGEST, teacher_digests


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home", "demo", "scenes")


@pytest.fixture
def graph(workspace: Workspace) -> Iterator[tuple[dg.Definitions, dg.DagsterInstance]]:
    with open_instance(workspace, load_profile("demo")) as instance:
        yield build(workspace), instance


def publish_autoencoder(store: ManifestStore, folder: Path) -> None:
    store.publish_folder("autoencoder", folder, Provenance("autoencoder", 1))


def test_a_teacher_is_published_with_its_scores_and_lineage(
    workspace: Workspace, graph: tuple[dg.Definitions, dg.DagsterInstance]
) -> None:
    store = ManifestStore(workspace.store)
    publish_autoencoder(store, SHIPPED_AUTOENCODER)
    done = run_launch(*graph, Launch("publish_teacher", "teacher-unet"))
    assert done.error is None
    manifest = store.require("teacher_backbone", "teacher-unet", require_gate=True)
    assert manifest.provenance.inputs == {"autoencoder": SHIPPED_AUTOENCODER_DIGEST}
    assert manifest.provenance.config["shipped"] == teacher_digests()["teacher-unet"]
    folder = store.local_folder("teacher_backbone", "teacher-unet", require_gate=True)
    assert (folder / "vae" / "config.json").is_file()
    event = graph[1].get_latest_materialization_event(dg.AssetKey("teacher_backbone"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    assert shown["parameters"].value == read_scores("teacher-unet")["num_parameters"]
    assert "judge picks its caption out of 8" in str(shown["scores"].value)


def test_beside_another_autoencoder_it_is_refused(
    workspace: Workspace, graph: tuple[dg.Definitions, dg.DagsterInstance], tmp_path: Path
) -> None:
    other = shutil.copytree(SHIPPED_AUTOENCODER, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "scaling_factor": 3.0}))
    store = ManifestStore(workspace.store)
    publish_autoencoder(store, other)
    done = run_launch(*graph, Launch("publish_teacher", "teacher-unet"))
    assert done.error is not None
    assert "paints in the latents of the shipped autoencoder" in done.error
    assert store.current("teacher_backbone", "teacher-unet") is None
