"""The prunable units of a backbone: how many of each kind every module has, and what one of them weighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from training.backbones import bare, family_of
from training.errors import FoundryError
from training.pruning._layers import (
    KINDS,
    Kind,
    Layer,
    UnitKey,
    layers_of,
    parameters_per_unit,
    shared_parameters,
)

DEFAULT_KINDS: tuple[Kind, ...] = ("heads", "ffn")


@dataclass(frozen=True)
class UnitGroup:
    """The units of one module; masks are bound to ``kind`` and ``name``, never to the order of calls.

    ``name``: the module's dotted name; FLUX's single blocks name ``act_mlp`` for neurons. ``parameters_per_unit``:
    rows with their biases and columns that go with a unit; the output projection's bias stays. ``shared_parameters``:
    what goes with the last unit alone, the normalisations of queries and keys.
    """

    kind: Kind
    name: str
    num_units: int
    parameters_per_unit: int
    shared_parameters: int = 0

    @property
    def key(self) -> UnitKey:
        """Kind and name, by which scores and masks are looked up."""
        return self.kind, self.name

    @property
    def parameters(self) -> int:
        """Parameters of all units, without the shared ones."""
        return self.num_units * self.parameters_per_unit


def unit_groups(
    backbone: nn.Module, kinds: Sequence[str] = DEFAULT_KINDS, *, legacy: bool = False
) -> list[UnitGroup]:
    """Every module with units of these kinds, in the model's order; emptied modules have none left.

    ``norm``, the adaLN channels, is FLUX's only. A double block's head is one unit for image and text streams.
    ``legacy`` is the official code's older choice for FLUX: no neurons of single blocks, and of the norms
    ``norm1_context`` alone.

    Raises FoundryError for an unknown kind, ``norm`` or ``legacy`` of another family, and a backbone that is not known.
    """
    inner = bare(backbone)
    return [
        UnitGroup(
            layer.kind,
            layer.name,
            layer.num_units,
            parameters_per_unit(inner, layer),
            shared_parameters(inner, layer),
        )
        for layer in chosen_layers(inner, kinds, legacy=legacy)
    ]


def kinds_named(text: str) -> list[Kind]:
    """Kinds from their names with commas between, such as ``heads,ffn``. Raises FoundryError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    _check_kinds(names, is_flux=True, legacy=False)
    return [kind for kind in KINDS if kind in names]


def chosen_layers(backbone: nn.Module, kinds: Sequence[str], *, legacy: bool = False) -> list[Layer]:
    """The layers of :func:`unit_groups`. Raises FoundryError as it does."""
    is_flux = family_of(backbone).name == "FLUX"
    _check_kinds(kinds, is_flux=is_flux, legacy=legacy)
    found = [layer for layer in layers_of(backbone) if layer.kind in kinds]
    return [layer for layer in found if not legacy or _is_legacy(layer)]


def _check_kinds(kinds: Sequence[str], *, is_flux: bool, legacy: bool) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise FoundryError(
            f"kinds: '{', '.join(unknown)}' found, allowed are {', '.join(KINDS)}; name one or more"
        )
    if "norm" in kinds and not is_flux:
        raise FoundryError("kinds: 'norm' found, but only FLUX has adaLN channels to prune; leave it out")
    if legacy and not is_flux:
        raise FoundryError("legacy: true found, but only FLUX has a legacy choice of units; leave it out")


def _is_legacy(layer: Layer) -> bool:
    if layer.kind == "ffn":
        return not layer.name.endswith(".act_mlp")
    return layer.kind == "heads" or layer.name.endswith(".norm1_context")
