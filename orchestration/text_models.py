"""Models whose prompts may ask for text: where one lies, and how it is loaded with its text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assets.graph.step_table import TEXT_MODELS
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError
from training.recipes.text_encoder import EncoderSettings

if TYPE_CHECKING:
    from assets.writing.text_model import TextModel


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


def load_text_model(store: ManifestStore, name: str, otherwise: EncoderSettings) -> TextModel:
    """The model with its text encoder, ``otherwise`` where its folder names none; of the workspace's own models pictures are as
    large as the data's. Raises FoundryError as :func:`text_model_folder` does."""
    from assets.writing.text_model import TextModel
    from assets.writing.written import with_size_of_data

    folder = text_model_folder(store, name)
    model = TextModel.load(folder, otherwise)
    return model if folder == Path(name) else with_size_of_data(store, model)


def located_by_model(store: ManifestStore) -> Mapping[str, str]:
    """Models of the workspace that passed their gate, those that were swept first, each with the layers that write."""
    from assets.writing.localizing import located_layers
    from assets.writing.lora_recipes import LAYERS

    layers: dict[str, str] = {}
    for key in store.partitions(LAYERS):
        table = store.read_table(LAYERS, key)
        layers[table["model"][0].as_py()] = ", ".join(located_layers(table))
    for asset in TEXT_MODELS:
        for key in store.partitions(asset):
            manifest = store.current(asset, key)
            if manifest is not None and manifest.gate is not None and manifest.gate.passed:
                layers.setdefault(key, "")
    return layers
