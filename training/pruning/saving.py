"""Classes of pruned backbones, whose configuration tells the units of every module that is not of stock shape.

Each is a subclass of its stock class: stock pipelines take it as they take its parent, ``save_pretrained`` writes
safetensors beside a config.json with ``kept_units``, and ``from_pretrained`` of the same class reads them. A pipeline
that holds one names this module in its index, and loads where this package is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import (
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers import ModelMixin as ModelMixin  # pipelines look here for the class whose methods load ours
from torch import nn

from training.backbones import bare, family_of
from training.backbones.own_options import constructor_with
from training.errors import FoundryError
from training.pruning._layers import KINDS, Kind, UnitKey
from training.pruning._resizing import resize

KeptUnits = Mapping[str, Mapping[str, int]]
"""Number of units by kind and module name, as config.json holds it; modules of stock shape are left out."""


def _keep_units(model: Any, kept_units: KeptUnits | None) -> None:
    resize(model, counts_of(kept_units or {}))


class PrunedUNet2DConditionModel(UNet2DConditionModel):
    """A UNet of Stable Diffusion 2 or SDXL with units removed; ``kept_units`` in its configuration tells which."""

    __init__ = constructor_with(UNet2DConditionModel, "kept_units", _keep_units)


class PrunedPixArtTransformer2DModel(PixArtTransformer2DModel):
    """PixArt's transformer with units removed."""

    __init__ = constructor_with(PixArtTransformer2DModel, "kept_units", _keep_units)


class PrunedSD3Transformer2DModel(SD3Transformer2DModel):
    """Stable Diffusion 3's transformer with units removed."""

    __init__ = constructor_with(SD3Transformer2DModel, "kept_units", _keep_units)


class PrunedFluxTransformer2DModel(FluxTransformer2DModel):
    """FLUX's transformer with units removed."""

    __init__ = constructor_with(FluxTransformer2DModel, "kept_units", _keep_units)


PRUNED: Mapping[Any, Any] = {
    UNet2DConditionModel: PrunedUNet2DConditionModel,
    PixArtTransformer2DModel: PrunedPixArtTransformer2DModel,
    SD3Transformer2DModel: PrunedSD3Transformer2DModel,
    FluxTransformer2DModel: PrunedFluxTransformer2DModel,
}
"""From stock classes to those of their pruned backbones."""


def pruned_class(backbone: nn.Module) -> Any:
    """The class of what a backbone is pruned to. Raises FoundryError for a backbone that is not known."""
    return PRUNED[family_of(backbone).stock_class]


def kept_units(backbone: nn.Module) -> KeptUnits:
    """Units by kind and module of a pruned backbone, none of a stock one."""
    config: Any = bare(backbone).config
    return config.get("kept_units") or {}


def counts_of(units: KeptUnits) -> dict[UnitKey, int]:
    """The same by kind and name. Raises FoundryError for a kind that is not known."""
    return {(_kind(kind), name): count for kind, named in units.items() for name, count in named.items()}


def _kind(name: str) -> Kind:
    found = next((kind for kind in KINDS if kind == name), None)
    if found is None:
        raise FoundryError(
            f"kept_units: kind '{name}' found, allowed are {', '.join(KINDS)}; save the model again"
        )
    return found
