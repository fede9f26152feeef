"""Masks on a backbone's units while it computes, without changing the backbone.

EcoDiff multiplies a head's mask onto the output of attention before heads are joined and projected, a neuron's onto
the activation, an adaLN channel's onto the projection of the time embedding (official code; sheet, section 1).

Hooks do exactly that. A processor of diffusers hands its attention's heads to the output projection joined along the
last axis, head by head ([b, n, h * d]); joining, splitting image from text tokens and casting to the queries' type,
which it has already, move numbers without changing them. Multiplying the [b, n, h, d] view of the projection's input
is therefore the same product of the same two numbers, bit for bit. FLUX's single blocks give out the joined heads
themselves, where there is no projection to hook before. Processors stay in place, so every attention backend may
compute the heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from training.backbones import bare
from training.errors import FoundryError
from training.pruning._layers import Layer, UnitKey
from training.pruning.units import DEFAULT_KINDS, chosen_layers

Masks = Callable[[UnitKey], Tensor]
"""From a module's kind and name to a mask of shape [num_units]; it is asked at every call of the module."""


@contextmanager
def masked(
    backbone: nn.Module, masks: Masks, kinds: Sequence[str] = DEFAULT_KINDS, *, legacy: bool = False
) -> Iterator[None]:
    """Inside, every module with units of these kinds multiplies ``masks((kind, name))`` onto them.

    The mask is asked once for every call of a module, so that it may hold new noise each time; a joint attention asks
    once for both of its streams. Gradients flow to the mask. A recomputation by ``torch.utils.checkpoint`` asks again:
    noise that it is to see again must come from the generators that checkpointing restores, or from the caller's own
    record. A feed-forward that is computed in chunks asks once a chunk. Masks are cast to the activations' type.

    A mapping's ``__getitem__`` serves as constant masks. ``kinds`` and ``legacy`` are those of :func:`unit_groups`.
    Raises FoundryError as that does, and at a call for a mask of another shape, naming it.
    """
    inner = bare(backbone)
    layers = chosen_layers(inner, kinds, legacy=legacy)
    handles: list[RemovableHandle] = []
    try:
        for layer in layers:
            handles += _hooks(inner, layer, masks)
        yield
    finally:
        for handle in handles:
            handle.remove()


def times(
    values: Float[Tensor, "*batch channels"], mask: Float[Tensor, " units"], width: int
) -> Float[Tensor, "*batch channels"]:
    """Each unit's ``width`` neighbouring channels times its mask."""
    mask = mask.to(values.dtype)
    if width == 1:
        return values * mask
    return (values.unflatten(-1, (-1, width)) * mask[:, None]).flatten(-2)


def _hooks(backbone: nn.Module, layer: Layer, masks: Masks) -> list[RemovableHandle]:
    if layer.masked_output is not None:
        module = backbone.get_submodule(layer.masked_output)
        return [module.register_forward_hook(_OutputMask(layer, masks))]
    joint = _JointMask(layer, masks)
    attention = backbone.get_submodule(layer.name)
    projections = [backbone.get_submodule(name) for name in layer.outputs]
    return [
        attention.register_forward_pre_hook(joint.ask),
        *(projection.register_forward_pre_hook(joint.apply) for projection in projections),
    ]


class _OutputMask:
    """Masks the output of a module, asking for the mask at each call."""

    def __init__(self, layer: Layer, masks: Masks) -> None:
        self.layer, self.masks = layer, masks

    def __call__(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return times(output, _checked(self.layer, self.masks(self.layer.key)), self.layer.width)


class _JointMask:
    """One mask for all output projections of one call of an attention."""

    def __init__(self, layer: Layer, masks: Masks) -> None:
        self.layer, self.masks = layer, masks
        self.drawn: Tensor | None = None

    def ask(self, _module: nn.Module, _inputs: Any) -> None:
        self.drawn = _checked(self.layer, self.masks(self.layer.key))

    def apply(self, _module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        if self.drawn is None:
            raise RuntimeError(f"{self.layer.name}: the output projection ran before its attention")
        return (times(inputs[0], self.drawn, self.layer.width),)


def _checked(layer: Layer, mask: Shaped[Tensor, ...]) -> Tensor:
    if mask.shape != (layer.num_units,):
        raise FoundryError(
            f"mask of '{layer.kind}/{layer.name}': shape {list(mask.shape)}, [{layer.num_units}] is needed; "
            "build masks from unit_groups of this backbone"
        )
    return mask
