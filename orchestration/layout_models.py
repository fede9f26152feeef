"""Which layout models a workspace has, and where one that is named lies."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from assets.graph.step_table import LAYOUT_MODELS
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError


class StoredModel(NamedTuple):
    """A partition of one of :data:`assets.graph.step_table.LAYOUT_MODELS`."""

    asset: str
    key: str


def stored_layout_models(store: ManifestStore, *, usable: bool = False) -> list[StoredModel]:
    """All that are stored, by asset and name; ``usable`` leaves out those that did not pass their gate."""
    found = [StoredModel(asset, key) for asset in LAYOUT_MODELS for key in store.partitions(asset)]
    return [model for model in found if not usable or _passed(store, model)]


def layout_model_folder(store: ManifestStore, name: str) -> Path:
    """The pipeline folder of a partition, or the folder of that path.

    Raises FoundryError for a name that is neither, and for a partition whose gate failed.
    """
    if (Path(name) / "model_index.json").is_file():
        return Path(name)
    known = stored_layout_models(store)
    model = next((model for model in known if model.key == name), None)
    if model is None:
        raise FoundryError(
            f"--model is '{name}', which is no folder of a model and no partition of {' or '.join(LAYOUT_MODELS)}; "
            f"there are: {', '.join(model.key for model in known) or 'none yet; materialize one'}"
        )
    return store.local_folder(model.asset, model.key, require_gate=True)


def _passed(store: ManifestStore, model: StoredModel) -> bool:
    manifest = store.current(model.asset, model.key)
    return manifest is not None and manifest.gate is not None and manifest.gate.passed
