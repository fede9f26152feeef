"""A backbone of stock shape made smaller: the same modules with fewer units, whose values are then loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from training.errors import FoundryError
from training.pruning._emptied import BiasOnly, EmptiedAttention, NoChannels, Scatter, ZeroChannels
from training.pruning._layers import Layer, UnitKey, layers_of, linear_of


def resize(backbone: nn.Module, counts: Mapping[UnitKey, int]) -> None:
    """Give each named module its number of units, in place; values of resized linear layers are new.

    Raises FoundryError for a module that the backbone lacks or a number that it cannot have.
    """
    layers = {layer.key: layer for layer in layers_of(backbone)}
    for key, count in counts.items():
        layer = layers.get(key)
        if layer is None or not 0 <= count <= layer.num_units:
            allowed = "no such module" if layer is None else f"allowed are 0 to {layer.num_units}"
            raise FoundryError(
                f"kept_units of '{'/'.join(key)}': {count} found, {allowed}; save the model again"
            )
        for name in layer.inputs:
            _shorten_rows(backbone, name, layer.width * layer.row_blocks * (layer.num_units - count))
        for name in layer.outputs:
            _shorten_columns(backbone, name, layer.width * (layer.num_units - count))
        _finish(backbone, layer, count)


def _shorten_rows(backbone: nn.Module, name: str, fewer: int) -> None:
    linear = linear_of(backbone, name)
    rows = linear.out_features - fewer
    _replace(backbone, name, _linear(linear, linear.in_features, rows) if rows else NoChannels())


def _shorten_columns(backbone: nn.Module, name: str, fewer: int) -> None:
    linear = linear_of(backbone, name)
    columns = linear.in_features - fewer
    has_bias = linear.bias is not None
    new: nn.Module = (
        _linear(linear, columns, linear.out_features)
        if columns
        else BiasOnly(linear.out_features, bias=has_bias)
    )
    _replace(backbone, name, new)


def _linear(like: nn.Linear, columns: int, rows: int) -> nn.Linear:
    weight = like.weight
    return nn.Linear(columns, rows, like.bias is not None, device=weight.device, dtype=weight.dtype)


def _finish(backbone: nn.Module, layer: Layer, count: int) -> None:
    """What a module knows of its own size."""
    module: Any = backbone.get_submodule(layer.name)
    if layer.kind == "norm":
        _finish_norm(module, layer, count)
    if layer.kind == "heads":
        if count == 0:
            _replace(backbone, layer.name, EmptiedAttention(module))
        else:
            module.heads = module.sliceable_head_dim = count
            module.inner_dim = module.inner_kv_dim = count * layer.width
    block: Any = backbone.get_submodule(layer.name.rpartition(".")[0])
    if layer.name.endswith(".act_mlp"):
        block.mlp_hidden_dim = count
    if hasattr(getattr(block, "proj_out", None), "weight") and hasattr(block, "mlp_hidden_dim"):
        # what tensor parallelism reads: the two blocks of columns that it is to split apart
        columns = block.proj_out.in_features
        block.proj_out._tp_packed_row_blocks = [columns - block.mlp_hidden_dim, block.mlp_hidden_dim]


def _finish_norm(norm: Any, layer: Layer, count: int) -> None:
    if count == 0:
        norm.linear = ZeroChannels(layer.num_units)
    elif count < layer.num_units:
        norm.linear = nn.Sequential(norm.linear, Scatter(layer.num_units, count))


def _replace(backbone: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(backbone.get_submodule(parent), last, new)
