"""Where a model that writes lies: in the workspace, in a folder, or among what ships."""

from __future__ import annotations

from pathlib import Path

from assets.graph.step_table import TEXT_MODELS
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError


def text_model_folder(store: ManifestStore, name: str) -> Path:
    """The pipeline folder of that path, or of a partition of any kind of model that draws by prompts alone.

    Raises FoundryError for a name that is neither, and for a partition whose gate failed.
    """
    if (Path(name) / "model_index.json").is_file():
        return Path(name)
    known = [(asset, key) for asset in TEXT_MODELS for key in store.partitions(asset)]
    asset = next((asset for asset, key in known if key == name), None)
    if asset is None:
        raise FoundryError(
            f"'{name}' is no folder of a pipeline and no model of this workspace, which has "
            f"{', '.join(key for _, key in known) or 'none yet; run `foundry demo`, or give a folder'}"
        )
    return store.local_folder(asset, name, require_gate=True)
