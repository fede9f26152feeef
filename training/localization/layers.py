"""Which attentions of a backbone see text, in the order in which they run, and what of their weights carries it.

Localisation (arXiv 2502.09935) counts layers in the order of execution. That is not the order of ``named_modules()``, which has
the middle of a UNet behind its way up; here one forward pass on the meta device tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from training.backbones import Inputs, attentions, bare, collector_paused, example_inputs, family_of
from training.errors import FoundryError
from training.recipes.validation import nearest

SINGLE_BLOCKS = ("FluxSingleTransformerBlock", "LayoutFluxSingleTransformerBlock")
"""Blocks whose attention projects text and image by the same weights, text rows first."""


@dataclass(frozen=True)
class TextLayer:
    """An attention through which pictures see text.

    ``name``: of the module. ``keys``, ``values``: projections of the text's keys K and values V. ``is_shared``: the same weights
    project the image too, behind the text (single blocks of FLUX). ``is_joint``: text tokens attend to the picture, so that
    keys and values change with it; elsewhere they are a function of the prompt alone.
    """

    name: str
    attention: nn.Module
    keys: nn.Module
    values: nn.Module
    is_shared: bool = False
    is_joint: bool = False

    @property
    def num_parameters(self) -> int:
        """Of both projections, biases included, as the paper counts a layer; adapters beside them are not counted."""
        return sum(_num_parameters(part) for part in (self.keys, self.values))


def text_layers(model: nn.Module) -> tuple[TextLayer, ...]:
    """The text layers of a model in the order of execution.

    Raises FoundryError for a model whose attention sees no text, and where projections are fused: what is fused has no keys of
    its own to be read or replaced.
    """
    inner = bare(model)
    found = {layer.name: layer for layer in _found(inner)}
    if not found:
        raise FoundryError(
            f"this {type(inner).__name__} has no attention that sees text; name a model whose blocks attend to its prompt"
        )
    return tuple(found[name] for name in _order_of(inner, found))


def layers_named(layers: Sequence[TextLayer], names: Sequence[str]) -> tuple[TextLayer, ...]:
    """Layers by module name, or by their number in the order of execution from 0. Raises FoundryError naming the nearest one."""
    by_name = {layer.name: layer for layer in layers}
    numbered = {str(number): layer for number, layer in enumerate(layers)}
    for name in names:
        if name not in by_name and name not in numbered:
            raise FoundryError(
                f"text layer '{name}' is not in this model, which has {len(layers)}, numbered from 0; "
                f"{nearest(name, list(by_name))}"
            )
    return tuple(by_name.get(name) or numbered[name] for name in names)


def _found(inner: nn.Module) -> Iterator[TextLayer]:
    """In the order of ``named_modules()``."""
    single = {
        f"{name}.attn" for name, block in inner.named_modules() if type(block).__name__ in SINGLE_BLOCKS
    }
    in_blocks = dict(attentions(inner))
    for name, module in inner.named_modules():
        attention: Any = module
        if getattr(attention, "add_k_proj", None) is not None and _is_own(name, in_blocks):
            _refuse_fused(name, attention)
            joint = name in in_blocks
            yield TextLayer(name, attention, attention.add_k_proj, attention.add_v_proj, is_joint=joint)
        elif name in single:
            _refuse_fused(name, attention)
            yield TextLayer(name, attention, attention.to_k, attention.to_v, is_shared=True, is_joint=True)
        elif name in in_blocks and getattr(attention, "is_cross_attention", False):
            _refuse_fused(name, attention)
            yield TextLayer(name, attention, attention.to_k, attention.to_v)


def _is_own(name: str, in_blocks: Mapping[str, nn.Module]) -> bool:
    """Whether an attention is the stock model's, not of a branch beside it: in a block, or a UNet block's own (IF)."""
    return name in in_blocks or name.rpartition(".")[0].endswith("attentions")


def _refuse_fused(name: str, attention: Any) -> None:
    if getattr(attention, "fused_projections", False):
        raise FoundryError(
            f"'{name}' has fused projections, whose keys and values cannot be told apart; call unfuse_qkv_projections() first"
        )


def _order_of(inner: nn.Module, found: Mapping[str, TextLayer]) -> list[str]:
    """Names in the order in which one forward pass, without memory or arithmetic, reaches them."""
    order: list[str] = []
    handles = [
        layer.attention.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, layer in found.items()
    ]
    try:
        with collector_paused(), torch.no_grad():
            _pass_on_meta(inner)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


class _Called(nn.Module):
    """A model as a part of one that takes :class:`Inputs`, so that its weights can be exchanged for a call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> Tensor:
        return inputs.call(self.model)


def _pass_on_meta(inner: Any) -> None:
    given = example_inputs(inner, 1, _small_side(inner), 8)
    meta = torch.device("meta")
    inputs = Inputs(given.noisy.to(meta), given.timestep.to(meta), given.condition.to(meta))
    called = _Called(inner)
    weights = {
        name: tensor.to(meta)
        for part in (called.named_parameters(), called.named_buffers())
        for name, tensor in part
    }
    with meta:
        functional_call(called, weights, (inputs,), strict=False)


def _small_side(inner: Any) -> int:
    """A side of latents that the family takes; the order of layers does not depend on it."""
    multiple, longest = family_of(inner).side(inner.config)
    return min(2 * multiple, longest)


def _num_parameters(projection: nn.Module) -> int:
    return sum(p.numel() for name, p in projection.named_parameters() if "lora_" not in name)
