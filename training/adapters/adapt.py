"""From a parent's backbone to what trains, and back to a whole model: the steps between parents, adapters and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from training.adapters.frozen_linear import freeze_linears
from training.adapters.lora import adapter_weights, add_adapters, fuse, has_adapters
from training.errors import FoundryError
from training.model_folders.parents import load_backbone
from training.recipes.execution import Execution
from training.recipes.specification import Recipe


def adapt(backbone: nn.Module, recipe: Recipe, execution: Execution) -> None:
    """Make a backbone train what the recipe says, in place: all of it, or adapters beside a frozen base.

    Raises FoundryError where execution asks to offload weights that train, or to shard a frozen base, and as
    :func:`training.adapters.lora.add_adapters` does.
    """
    if recipe.lora is None:
        if execution.offload_base:
            raise FoundryError(
                f"execution.json: 'offload_base' is true, but recipe '{recipe.name}' trains all weights; add a "
                "section lora to the recipe, or say false"
            )
        return
    if execution.strategy == "fsdp" and execution.world_size > 1:
        raise FoundryError(
            f"execution.json: 'strategy' is 'fsdp', but recipe '{recipe.name}' trains adapters, which every process can "
            "hold whole; say 'ddp'"
        )
    int8 = recipe.base_format == "int8"
    if int8 or execution.offload_base:
        freeze_linears(backbone, int8=int8, offloaded=execution.offload_base)
    add_adapters(backbone, recipe.lora, recipe.seed)


def whole_backbone(backbone: Any, recipe: Recipe, parent: Path | None) -> Any:
    """The model to export: the backbone itself, or its parent in float32 with the adapters fused in.

    The parent is read again, so that a base in 8 bits or far away costs the result nothing.
    """
    if recipe.lora is None or parent is None or not has_adapters(backbone):
        return backbone
    base = load_backbone(parent)
    fuse(base, adapter_weights(backbone), recipe.lora)
    return base
