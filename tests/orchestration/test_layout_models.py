"""Layout models of a workspace: those that may be drawn with, and what is said of a name that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.graph.versions import GateResult, Provenance
from orchestration.layout_models import StoredModel, layout_model_folder, stored_layout_models
from orchestration.resources.files import StoreError
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError

ASSET = "layout_model"


def stored(root: Path) -> ManifestStore:
    """A store with a model that passed its gate, one that failed and one whose gate never ran."""
    store, folder = ManifestStore(root / "store"), root / "model"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    for key, gate in (("good", GateResult(True)), ("bad", GateResult(False)), ("unseen", None)):
        store.publish_folder(ASSET, folder, Provenance(ASSET, 1), key, gate)
    return store


def test_models_that_did_not_pass_are_not_usable(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert [model.key for model in stored_layout_models(store)] == ["bad", "good", "unseen"]
    assert stored_layout_models(store, usable=True) == [StoredModel(ASSET, "good")]
    assert stored_layout_models(ManifestStore(tmp_path / "none")) == []


def test_a_model_is_named_by_partition_or_folder(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert (layout_model_folder(store, "good") / "model_index.json").is_file()
    assert layout_model_folder(store, str(tmp_path / "model")) == tmp_path / "model"
    with pytest.raises(StoreError, match="refused because its gate failed"):
        layout_model_folder(store, "bad")
    with pytest.raises(
        FoundryError,
        match="no partition of shipped_layout_model or layout_model; there are: bad, good, unseen",
    ):
        layout_model_folder(store, "gut")
    with pytest.raises(FoundryError, match="there are: none yet; materialize one"):
        layout_model_folder(ManifestStore(tmp_path / "none"), "good")
