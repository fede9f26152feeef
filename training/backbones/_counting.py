"""Multiply-adds of one forward pass, layer by layer, without memory and without arithmetic.

The model is built on the meta device and called once. Convolutions and linears are told apart from attention's
own products (QK^T and AV). A transformer block that repeats one already seen, with inputs of the same shapes, is
not walked through again: its counts are taken over, which makes SDXL's 70 blocks cost as much as four.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, no_type_check

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from training.backbones._building import Backbone, blueprint, collector_paused
from training.backbones._forward import control_channels, denoise, latent_shape, text_dim
from training.backbones._variant import Conditioning
from training.backbones.families import TRANSFORMER_BLOCKS, bare, pooled_dim
from training.conditioning import Condition, Placed

WEIGHTED = (nn.Linear, nn.Conv2d)
SHAPE_KEEPING = (nn.GroupNorm, nn.LayerNorm, nn.SiLU, nn.GELU, nn.Dropout)
"""Modules without multiply-adds whose output has the shape of their input: passed by, for the meta device is slow."""
REPEATED = (*TRANSFORMER_BLOCKS, "Transformer2DModel")
"""Classes of blocks that appear many times in one model and whose cost depends on shapes alone."""


@dataclass(frozen=True)
class LayerCost:
    """Multiply-adds of one layer for one forward pass: of its weights, and of attention's own products."""

    macs: int = 0
    product_macs: int = 0

    def __add__(self, other: LayerCost) -> LayerCost:
        return LayerCost(self.macs + other.macs, self.product_macs + other.product_macs)


@dataclass(frozen=True)
class Inputs:
    """Arguments of :func:`training.backbones.denoise` beside the model."""

    noisy: Tensor
    timestep: Tensor
    condition: Condition

    def call(self, model: nn.Module) -> Tensor:
        """One forward pass."""
        return denoise(model, self.noisy, self.timestep, self.condition)


def example_inputs(
    model: Backbone, batch: int = 1, latent_size: int | None = None, num_tokens: int = 77
) -> Inputs:
    """Random inputs of the right shapes on the model's device; ``latent_size`` None is the model's own."""
    channels, height, width = latent_shape(model)
    if latent_size is not None:
        height = width = latent_size
    first = next(model.parameters())
    options: dict[str, Any] = {"device": first.device, "dtype": first.dtype}
    pooled, control = pooled_dim(model.config), control_channels(model)
    noisy = torch.randn(batch, channels, height, width, **options)
    condition = Condition(
        torch.randn(batch, num_tokens, text_dim(model.config), **options),
        torch.ones(batch, num_tokens, device=first.device),
        None if pooled is None else torch.randn(batch, pooled, **options),
        control=torch.randn(batch, control, height, width, **options) if control else None,
        layout=placed_example(model, batch, **options),
    )
    return Inputs(noisy, torch.full((batch,), 500.0, device=first.device), condition)


def placed_example(
    model: Backbone, batch: int, generator: torch.Generator | None = None, **options: Any
) -> Placed | None:
    """As many entities as a model with a layout branch takes, all there; None for the others."""
    own = getattr(bare(model), "layout_options", None)
    if own is None:
        return None
    corner = torch.rand(batch, own.max_boxes, 2, generator=generator, **options) / 2
    phrases = torch.randn(
        batch, own.max_boxes, own.tokens_per_entity, own.phrase_dim, generator=generator, **options
    )
    there = torch.ones(batch, own.max_boxes, dtype=torch.bool, device=phrases.device)
    return Placed(torch.cat([corner, corner + 0.5], dim=-1), phrases, there)


def layer_costs(model: Backbone, inputs: Inputs) -> dict[str, LayerCost]:
    """Cost by name of the layer that caused it: each linear and convolution, and modules around bare products.

    ``model`` and ``inputs`` lie on the meta device. Layers that the pass does not reach are not listed.
    """
    tally = _Tally()
    with collector_paused(), _watched(model, tally), torch.no_grad(), tally, torch.device("meta"):
        inputs.call(model)
    return tally.costs


@lru_cache(maxsize=512)
def variant_costs(
    name: str,
    latent_size: int | None = None,
    num_tokens: int = 77,
    conditioning: Conditioning | None = None,
) -> Mapping[str, LayerCost]:
    """:func:`layer_costs` of a registered backbone for one image; remembered within the process."""
    model = blueprint(name, conditioning)
    return layer_costs(model, example_inputs(model, 1, latent_size, num_tokens))


def macs_per_image(name: str, num_tokens: int = 32) -> int:
    """Multiply-adds of one forward pass of one image, linears and convolutions only (QK^T and AV left out).

    The convention of "On the Scalability of Diffusion-based Text-to-Image Generation", Table 1. ``num_tokens`` is
    the length of the text. Training costs about three times as much, 2 FLOPs per multiply-add.
    """
    return sum(cost.macs for cost in variant_costs(name, None, num_tokens).values())


class _Tally(TorchDispatchMode):
    """Adds what each operation multiplies to the module that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: dict[str, LayerCost] = {}
        self.running: list[tuple[str, bool]] = [("", False)]  # module's name, whether it is a weighted layer
        self.seen: dict[Any, tuple[Any, dict[str, LayerCost]]] = {}

    def add(self, name: str, cost: LayerCost) -> None:
        self.costs[name] = self.costs.get(name, LayerCost()) + cost

    @no_type_check  # called for every operation
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        rule = flop_registry.get(func._overloadpacket)
        if rule is not None:
            macs = rule(*args, **kwargs, out_val=output) // 2
            name, weighted = self.running[-1]
            self.add(name, LayerCost(macs=macs) if weighted else LayerCost(product_macs=macs))
        return output


@contextmanager
def _watched(model: nn.Module, tally: _Tally) -> Iterator[None]:
    """While it lasts, every named module tells the tally when it runs, and repeated blocks are skipped."""
    handles = []
    replaced = []
    for name, module in model.named_modules():
        if isinstance(module, SHAPE_KEEPING):
            vars(module)["forward"] = _first
            replaced.append(module)
            continue
        if type(module).__name__ in REPEATED:
            vars(module)["forward"] = _Remembered(name, module, tally)
            replaced.append(module)
        entry = (name, isinstance(module, WEIGHTED))
        handles.append(module.register_forward_pre_hook(lambda *_, entry=entry: tally.running.append(entry)))
        handles.append(module.register_forward_hook(lambda *_: _pop(tally)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in replaced:
            del vars(module)["forward"]


def _first(value: Tensor) -> Tensor:
    return value


def _pop(tally: _Tally) -> None:
    tally.running.pop()


class _Remembered:
    """A block's forward that takes over output and costs of an equal block that ran before."""

    def __init__(self, name: str, module: nn.Module, tally: _Tally) -> None:
        self.prefix, self.module, self.tally = f"{name}.", module, tally
        self.forward = module.forward
        self.shapes = (type(module), tuple(parameter.shape for parameter in module.parameters()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        key = (self.shapes, _shapes(args), _shapes(kwargs))
        if key not in self.tally.seen:
            output = self.forward(*args, **kwargs)
            self.tally.seen[key] = (output, self._own_costs())
            return output
        output, costs = self.tally.seen[key]
        for name, cost in costs.items():
            self.tally.add(self.prefix + name, cost)
        return output

    def _own_costs(self) -> dict[str, LayerCost]:
        costs = self.tally.costs
        return {
            name.removeprefix(self.prefix): cost
            for name, cost in costs.items()
            if name.startswith(self.prefix)
        }


def _shapes(value: Any) -> Any:
    """Shapes of the tensors in an argument, whatever holds them."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, Mapping):
        return tuple((key, _shapes(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_shapes(item) for item in value)
    return repr(value)
