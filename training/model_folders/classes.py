"""Which class a saved backbone is of, and how a part of a pipeline folder is loaded."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from training.backbones.families import BACKBONE_CLASSES, FAMILIES
from training.errors import FoundryError
from training.model_folders.pretrained import check_safetensors

AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def backbone_part(folder: Path) -> tuple[str, Any]:
    """Sub-folder and class of the backbone in a pipeline folder. Raises FoundryError when there is none."""
    for part in sorted({row.part for row in FAMILIES.values()}):
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
    """A diffusers model in float32 and evaluation mode, every weight from the folder.

    Raises FoundryError when its weights are not safetensors, one of them is missing, or one has no place in the model.
    """
    check_safetensors(folder)
    model, found = kind.from_pretrained(
        folder, low_cpu_mem_usage=False, use_safetensors=True, output_loading_info=True
    )
    for problem, remedy in (
        ("missing_keys", "lacks the weight '{}'; it would be random, fetch or train the model again"),
        (
            "unexpected_keys",
            "holds the weight '{}', which a {} of its config.json has no place for; fetch it again",
        ),
    ):
        if names := sorted(found[problem]):
            raise FoundryError(
                f"{folder}: {remedy.format(names[0], kind.__name__)}; it is the first of {len(names)} such weights"
            )
    return model.eval()
