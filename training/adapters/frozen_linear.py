"""Frozen linear layers that take less memory on the device: in 8 bits, or kept in the host's memory between uses.

Both matter where low-rank adapters train beside weights that never change. The weight is brought into the format and
onto the device of its input when it is used, in the forward pass and again in the backward pass, and let go after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

LARGEST = 127.0


def quantise_rows(
    weight: Float[Tensor, "rows columns"],
) -> tuple[Int8[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """Symmetric 8-bit integers and one scale a row: weight is about integers times scale."""
    scale = weight.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
    return (weight / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


class _Product(torch.autograd.Function):
    """x W^T for a weight that is fetched when it is needed and takes no gradient."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: FrozenLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, inputs.dtype
        return nn.functional.linear(inputs, layer.fetch(inputs.device, _compute_dtype(inputs)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return (gradient @ ctx.layer.fetch(gradient.device, gradient.dtype)).to(ctx.dtype), None


class FrozenLinear(nn.Linear):
    """A linear layer that is never trained, its weight in int8 with a scale a row, or as it was.

    ``offloaded``: the weight stays where it lies (host memory, pinned where there is a GPU) when the module moves.
    """

    scale: Tensor | None

    def __init__(self, layer: nn.Linear, *, int8: bool, offloaded: bool) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        weight: Tensor = layer.weight.detach()
        scale: Tensor | None = None
        if int8:
            weight, scale = quantise_rows(weight)
        self.weight = nn.Parameter(_at_home(weight) if offloaded else weight, requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        self.register_buffer("scale", scale)
        self.offloaded = offloaded

    def fetch(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The weight on a device in a floating format."""
        weight = self.weight.detach().to(device, non_blocking=True).to(dtype)
        return weight if self.scale is None else weight * self.scale.to(device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """x W^T + b. The bias joins outside of the product, where autograd needs nothing of it."""
        product: Tensor = _Product.apply(input, self)
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FrozenLinear:
        if not self.offloaded:
            return super()._apply(fn, recurse)
        kept = self._parameters.pop("weight")
        try:
            return super()._apply(fn, recurse)
        finally:
            self._parameters["weight"] = kept


def freeze_linears(module: nn.Module, *, int8: bool, offloaded: bool) -> int:
    """Replace every linear layer of a module by a frozen one; returns how many there are.

    Other layers (convolutions, norms, embeddings) stay as they are.
    """
    places = [
        (parent, name)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    for parent, name in places:
        setattr(parent, name, FrozenLinear(getattr(parent, name), int8=int8, offloaded=offloaded))
    return len(places)


def _at_home(weight: Tensor) -> Tensor:
    weight = weight.cpu()
    return weight.pin_memory() if torch.cuda.is_available() else weight


def _compute_dtype(inputs: Tensor) -> torch.dtype:
    kind = inputs.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return inputs.dtype
