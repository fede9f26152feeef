"""Which class a saved backbone is of, and how a part of a pipeline folder is loaded."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.errors import FoundryError
from training.model_folders.pretrained import check_safetensors

_STOCK = (
    "PixArtTransformer2DModel",
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
)
BACKBONE_CLASSES: Mapping[str, str] = {
    **dict.fromkeys(_STOCK, "diffusers"),
    **{f"Pruned{name}": "training.pruning.saving" for name in _STOCK},
}
"""Module of every class that a saved backbone may be of; it is imported when a folder asks for it."""

AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def backbone_part(folder: Path) -> tuple[str, Any]:
    """Sub-folder and class of the backbone in a pipeline folder. Raises FoundryError when there is none."""
    for part in ("transformer", "unet"):
        if (folder / part).is_dir():
            return part, _backbone_class(folder / part / "config.json")
    raise FoundryError(
        f"{folder}: holds neither transformer/ nor unet/; name the model/ folder of a finished run"
    )


def _backbone_class(path: Path) -> Any:
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError) as error:
        raise FoundryError(f"{path}: cannot be read ({error}); fetch the model again") from error
    if name not in BACKBONE_CLASSES:
        raise FoundryError(
            f"{path}: class '{name}' is no backbone that we know; known are {', '.join(BACKBONE_CLASSES)}"
        )
    return getattr(importlib.import_module(BACKBONE_CLASSES[name]), name)


def load_part(kind: Any, folder: Path) -> Any:
    """A diffusers model in float32 and evaluation mode. Raises FoundryError when its weights are not safetensors."""
    check_safetensors(folder)
    return kind.from_pretrained(folder, low_cpu_mem_usage=False, use_safetensors=True).eval()
