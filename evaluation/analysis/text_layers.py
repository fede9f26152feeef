"""The layers through which a backbone sees text, with what of its parameters they are: of a registered one or of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation.analysis.backbone import on_meta
from training.backbones import BACKBONES, blueprint, model_parameters
from training.errors import FoundryError
from training.localization import text_layers
from training.model_folders.classes import backbone_part
from training.recipes.validation import nearest


def text_layer_rows(model: str) -> list[dict[str, Any]]:
    """A row a text layer in order of execution: number, module, parameters of keys and values, share of the model's.

    ``model``: registry name or folder of a pipeline; nothing of its weights is read. ``share``: of all parameters, in [0, 1].
    Raises FoundryError when it is neither, and for a model whose attention sees no text.
    """
    backbone = _on_meta(model)
    whole = model_parameters(backbone)
    return [
        {
            "layer": number,
            "module": layer.name,
            "joint": layer.is_joint,
            "shared_with_image": layer.is_shared,
            "key_value_parameters": layer.num_parameters,
            "share": layer.num_parameters / whole,
        }
        for number, layer in enumerate(text_layers(backbone))
    ]


def _on_meta(model: str) -> Any:
    if model in BACKBONES:
        return blueprint(model)
    if not Path(model).is_dir():
        raise FoundryError(
            f"'{model}' is no folder and no registered backbone; {nearest(model, list(BACKBONES))}"
        )
    part, kind = backbone_part(Path(model))
    return on_meta(Path(model) / part, kind)
