"""Structural removal: a smaller backbone that computes what masking with 0 and 1 computes.

A head goes with its rows (and biases) of the query, key and value projections of both streams and its columns of the
output projections; a neuron with its row of the first projection (both halves of GEGLU's) and its column of the
second; an adaLN channel with its row, the rest being scattered among zeros (sheet, section 7). Biases of output
projections stay, and while a head is left normalisations of queries and keys, which all heads share. What stays is copied, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from training.backbones import bare, collector_paused
from training.errors import FoundryError
from training.pruning._layers import Layer, UnitKey, layers_of
from training.pruning.saving import counts_of, kept_units, pruned_class
from training.recipes.validation import nearest

Keep = Mapping[UnitKey, Tensor]
"""For each module that is pruned, by kind and name: True for every unit that stays."""


def prune(backbone: nn.Module, keep: Keep) -> Any:
    """A pruned copy on the backbone's device, in its precision and mode; modules that ``keep`` leaves out stay whole.

    Modules may be emptied: they then answer with the bias of their output projection. A pruned backbone can be pruned
    again; ``keep`` then tells of the units that it has left. The backbone itself is not changed and shares no memory.

    Raises FoundryError for a module that the backbone lacks, a mask of another shape or type, weights without values,
    and a backbone that :func:`unit_groups` refuses.
    """
    inner: Any = bare(backbone)
    chosen = _checked(inner, keep)
    counts = counts_of(kept_units(inner)) | {key: int(mask.sum()) for key, (_, mask) in chosen.items()}
    config = {**inner.config, "kept_units": _by_kind(counts)}
    with collector_paused(), torch.device("meta"):
        pruned = pruned_class(inner).from_config(config)
    pruned.load_state_dict(_surviving(inner, list(chosen.values())), assign=True)
    _copy_buffers(inner, pruned)
    return pruned.train(inner.training)


Chosen = tuple[Layer, Tensor]


def _checked(backbone: nn.Module, keep: Keep) -> dict[UnitKey, Chosen]:
    layers = {layer.key: layer for layer in layers_of(backbone)}
    names = ["/".join(key) for key in layers]
    for key, mask in keep.items():
        if key not in layers:
            raise FoundryError(
                f"keep: the backbone has no '{'/'.join(key)}'; {nearest('/'.join(key), names)}"
            )
        if mask.dtype != torch.bool or mask.shape != (layers[key].num_units,):
            raise FoundryError(
                f"keep of '{'/'.join(key)}': {mask.dtype} of shape {list(mask.shape)} found, "
                f"torch.bool of shape [{layers[key].num_units}] is needed"
            )
    if next(backbone.parameters()).is_meta:
        raise FoundryError(
            "prune: the backbone is on the meta device, without values; plan_removal counts there"
        )
    # a mask that keeps everything changes nothing, and its module keeps its stock shape
    return {key: (layers[key], mask) for key, mask in keep.items() if not mask.all()}


def _by_kind(counts: Mapping[UnitKey, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (kind, name), count in counts.items():
        found.setdefault(kind, {})[name] = count
    return found


@torch.no_grad()
def _surviving(backbone: nn.Module, chosen: Sequence[Chosen]) -> dict[str, Tensor]:
    """Every tensor of the pruned backbone, by its name there."""
    rows, columns = _kept_rows(chosen), _kept_columns(backbone, chosen)
    channels = {layer.inputs[0]: mask for layer, mask in chosen if layer.kind == "norm"}
    found: dict[str, Tensor] = {}
    for full_name, tensor in backbone.state_dict().items():
        name, _, last = full_name.rpartition(".")
        if _goes_with_attention(name, chosen):
            continue
        value = tensor
        if last in ("weight", "bias") and name in rows:
            value = value[rows[name].to(value.device)]
        if last == "weight" and name in columns:
            value = value[:, columns[name].to(value.device)]
        found[full_name] = value.clone() if value is tensor else value
    for name, mask in channels.items():
        _scatter(found, name, mask)
    return {name: value for name, value in found.items() if value.numel()}


def _goes_with_attention(name: str, chosen: Sequence[Chosen]) -> bool:
    """Whether a module has no use any more: of an attention without heads only the output projections answer."""
    return any(
        layer.kind == "heads" and name.startswith(f"{layer.name}.") and name not in layer.outputs
        for layer, mask in chosen
        if not mask.any()
    )


def _kept_rows(chosen: Sequence[Chosen]) -> dict[str, Bool[Tensor, " rows"]]:
    return {
        name: mask.repeat_interleave(layer.width).repeat(layer.row_blocks)
        for layer, mask in chosen
        for name in layer.inputs
    }


def _kept_columns(backbone: nn.Module, chosen: Sequence[Chosen]) -> dict[str, Bool[Tensor, " columns"]]:
    """Heads and neurons of FLUX's single blocks share the columns of one projection."""
    found: dict[str, Tensor] = {}
    for layer, mask in chosen:
        for name in layer.outputs:
            linear: Any = backbone.get_submodule(name)
            whole = found.setdefault(name, torch.ones(linear.in_features, dtype=torch.bool))
            own = mask.repeat_interleave(layer.width)
            whole[layer.first_column : layer.first_column + len(own)] = own
    return found


def _scatter(tensors: dict[str, Tensor], name: str, mask: Bool[Tensor, " channels"]) -> None:
    """Move an adaLN projection's tensors to their names beside the places of its rows; earlier places are thinned."""
    norm = name.removesuffix(".0")
    earlier = tensors.pop(f"{norm}.1.places", None)
    device = tensors[f"{name}.weight"].device
    places = mask.nonzero().flatten().to(device) if earlier is None else earlier[mask.to(earlier.device)]
    for last in ("weight", "bias"):
        value = tensors.pop(f"{name}.{last}", None)
        if value is not None:
            tensors[f"{norm}.0.{last}"] = value
    tensors[f"{norm}.1.places"] = places


def _copy_buffers(source: nn.Module, pruned: nn.Module) -> None:
    """Buffers that are computed rather than saved, such as PixArt's positions."""
    for name, buffer in list(pruned.named_buffers()):
        if buffer.is_meta:
            parent, _, last = name.rpartition(".")
            pruned.get_submodule(parent)._buffers[last] = source.get_buffer(name).clone()
