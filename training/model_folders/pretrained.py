"""Pipeline folders that others trained (SD, SDXL, SD3, FLUX, PixArt): where they lie, what they hold, how they are sampled.

Only safetensors are read: pickled weights run code when they are loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.errors import FoundryError
from training.shards.description import LATENT_FORMAT, read_description

INDEX = "model_index.json"
HUB_FILES = (
    INDEX,
    "scheduler/*.json",
    *(f"{part}/*.{kind}" for part in ("unet", "transformer", "vae") for kind in ("json", "safetensors")),
)
"""What is fetched of a hub repository: no text encoders, whose states are in the training shards."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OWN_PARTS = ("vae", "scheduler", "unet", "transformer")


def locate_pretrained(source: str, revision: str | None = None) -> Path:
    """The folder of a pretrained pipeline: a local path as it is, or a hub id (``owner/name``) fetched into the cache.

    Raises FoundryError when it is neither, or cannot be fetched.
    """
    folder = Path(source).expanduser()
    if (folder / INDEX).is_file():
        return folder
    if folder.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise FoundryError(
            f"{source}: holds no {INDEX}; give the folder of a diffusers pipeline, or a hub id owner/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FoundryError(
            f"{source}: cannot be fetched from the hub ({type(error).__name__}); check the name and the network, or "
            "give the path of a local copy"
        ) from error


def fine_tuning_inputs(parent: Path, dataset: Path) -> tuple[dict[str, str], dict[str, Path]]:
    """Digests and places of what a fine-tuning reads: the pipeline, its own autoencoder, and shards in its latent space.

    Raises FoundryError when the shards were made with another autoencoder.
    """
    paths = {"parent": Path(parent), "autoencoder": Path(parent) / "vae", "dataset": Path(dataset)}
    digests = {name: folder_digest(path, OUTSIDE_MODEL_DIGEST) for name, path in paths.items()}
    about = read_description(paths["dataset"], LATENT_FORMAT)
    if about.autoencoder_digest != digests["autoencoder"]:
        raise FoundryError(
            f"{dataset}: made with autoencoder {str(about.autoencoder_digest)[:12]}…, {paths['autoencoder']} has digest "
            f"{digests['autoencoder'][:12]}…; write the training shards with the pipeline's own autoencoder"
        )
    return {**digests, "text_encoder": str(about.text_encoder_digest)}, paths


def check_safetensors(folder: Path) -> None:
    """Refuse a model part whose weights are pickled or missing. Raises FoundryError naming the file."""
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path for path in folder.glob("*") if path.suffix in PICKLES)
    if pickled:
        raise FoundryError(
            f"{pickled[0]}: pickled weights are not read, they can run code; convert the model with "
            "save_pretrained(safe_serialization=True), or fetch its safetensors"
        )
    raise FoundryError(f"{folder}: holds no .safetensors; fetch the weights of this part")


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json`` of a pipeline folder. Raises FoundryError when it cannot be read."""
    path = Path(folder) / INDEX
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(
            f"{path}: cannot be read ({error}); give the folder of a diffusers pipeline"
        ) from error
    return index


def child_index(parent: Path) -> dict[str, Any]:
    """The index of a model that was fine-tuned from a pipeline: the parent's, without the parts that do not travel."""
    index = read_index(parent)
    return {
        name: [None, None]
        if isinstance(value, list) and name not in _OWN_PARTS and len(value) == 2
        else value
        for name, value in index.items()
    }


def copy_scheduler(parent: Path, folder: Path) -> None:
    """Copy the scheduler's configuration, so that stock pipelines sample the child as they sample the parent."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "scheduler_config.json"
    shutil.copyfile(parent / "scheduler" / name, folder / name)


def load_scheduler(folder: Path) -> Any:
    """The scheduler of a pipeline folder. Raises FoundryError when diffusers has no class of its name."""
    import diffusers

    path = Path(folder) / "scheduler" / "scheduler_config.json"
    config: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kind = getattr(diffusers, str(config.get("_class_name")), None)
    if kind is None:
        raise FoundryError(
            f"{path}: scheduler class '{config.get('_class_name')}' is not in diffusers {diffusers.__version__}; "
            "name one that is"
        )
    return kind.from_config(config)
