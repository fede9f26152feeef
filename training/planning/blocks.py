"""Repeated blocks are simulated once, alone; where they appear again their moments are pasted.

Without it a transformer of 70 equal blocks would be walked through 70 times: seconds for each backbone of a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from training.planning.live_bytes import NOTHING, LiveBytes, Row, above

REPEATED = (
    "BasicTransformerBlock",
    "FluxSingleTransformerBlock",
    "FluxTransformerBlock",
    "JointTransformerBlock",
    "ResnetBlock2D",
)


@dataclass(frozen=True)
class BlockTrace:
    """What one block does to the live bytes, relative to its beginning and to the beginning of its backward pass."""

    forward: list[Row]
    retained: Row  # held for the backward pass, its output not counted
    backward: list[Row]
    outputs: list[tuple[torch.Size, torch.dtype]]
    structure: Any  # how the outputs are nested
    held_inputs: tuple[int, ...]  # places among the tensor inputs of those that are held too


_TRACES: dict[Any, BlockTrace] = {}


class Pasted:
    """The blocks of one simulation, whose cast weights live to the end of the forward pass as autocast keeps them."""

    def __init__(self, live: LiveBytes) -> None:
        self.live = live
        self.in_forward = True
        self.casts: list[Tensor] = []

    def forward_ended(self) -> None:
        """Autocast's cache is emptied."""
        self.in_forward = False
        self.casts.clear()


@contextmanager
def pasted_blocks(model: nn.Module, live: LiveBytes) -> Iterator[Pasted]:
    """While it lasts, repeated blocks of the model are pasted instead of walked through."""
    pasted = Pasted(live)
    blocks = [module for module in model.modules() if type(module).__name__ in REPEATED]
    for block in blocks:
        vars(block)["forward"] = _Forward(block, pasted)
    try:
        yield pasted
    finally:
        for block in blocks:
            del vars(block)["forward"]


class _Forward:
    """A block's forward: looks up its trace, and makes an output whose backward pass pastes it."""

    def __init__(self, block: nn.Module, pasted: Pasted) -> None:
        self.block, self.pasted = block, pasted
        self.forward = block.forward
        self.parameters = list(block.parameters())
        self.shapes = (type(block).__name__, _structure(block))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        key = (self.shapes, spec, tuple(_kind(leaf) for leaf in leaves), _formats())
        if key not in _TRACES:
            _TRACES[key] = trace_block(self.forward, self.parameters, args, kwargs, self.pasted.live)
        trace = _TRACES[key]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        outputs = _Paste.apply(trace, self.pasted, len(tensors), *tensors, *self.parameters)
        return tree_unflatten(list(outputs), trace.structure)


def _structure(block: nn.Module) -> Any:
    return tuple(
        (type(part).__name__, getattr(part, "heads", None), tuple(p.shape for p in part.parameters(recurse=False)))
        for part in block.modules()
    )


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.dtype, leaf.requires_grad
    return repr(leaf)


def _formats() -> Any:
    from torch.overrides import _get_current_function_mode_stack

    modes = tuple(type(mode).__name__ for mode in _get_current_function_mode_stack())
    return torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), modes


class _Paste(torch.autograd.Function):
    """Stands for a block: holds a lump of the size of what the block would hold, and pastes its moments."""

    @staticmethod
    def forward(ctx: Any, trace: BlockTrace, pasted: Pasted, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        live = pasted.live
        live.paste(trace.forward)
        lump = live.lump((trace.retained[0], trace.retained[1], 0.0))
        casts = live.lump((0.0, 0.0, trace.retained[2]))
        if pasted.in_forward:
            pasted.casts.append(casts)
        held = [tensors[place] for place in trace.held_inputs]
        ctx.save_for_backward(lump, casts, *held)
        ctx.trace, ctx.live = trace, live
        ctx.shapes = [(tensor.shape, tensor.dtype) for tensor in tensors]
        return tuple(torch.empty(shape, dtype=dtype) for shape, dtype in trace.outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        lump, casts, *_ = ctx.saved_tensors
        ctx.live.paste(ctx.trace.backward)
        ctx.live.drop(lump)
        ctx.live.drop(casts)
        wanted = zip(ctx.needs_input_grad[3:], ctx.shapes, strict=True)
        made = [torch.empty(shape, dtype=dtype) if needed else None for needed, (shape, dtype) in wanted]
        return (None, None, None, *made)


class _Sink(torch.autograd.Function):
    """Ends a block's graph without holding its outputs; its backward pass hands in their gradients."""

    @staticmethod
    def forward(ctx: Any, begun: list[Row], live: LiveBytes, *outputs: Tensor) -> Tensor:
        ctx.begun, ctx.live = begun, live
        ctx.shapes = [(output.shape, output.dtype) for output in outputs]
        return torch.empty(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Any:
        gradients = [torch.empty(shape, dtype=dtype) for shape, dtype in ctx.shapes]
        ctx.begun += [ctx.live.now, (float(len(ctx.live.rows)), 0.0, 0.0)]
        return (None, None, *gradients)


def trace_block(
    forward: Any, parameters: list[Tensor], args: Any, kwargs: Any, outer: LiveBytes
) -> BlockTrace:
    """Run a block forward and backward on inputs of its own, unseen by the simulation around it."""
    alone = LiveBytes()
    with (
        outer.paused(),
        alone,
        saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor),
        torch.enable_grad(),
        _no_cache(),
    ):
        for parameter in parameters:
            alone.ignore(parameter)
        args, kwargs = tree_map(_own, (args, kwargs))
        storages = [
            alone.size(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
        ]
        start, first = alone.now, len(alone.rows)
        outputs = forward(*args, **kwargs)
        leaves, structure = tree_flatten(outputs)
        rows = above(alone.rows[first:], start)
        made = [(leaf.shape, leaf.dtype) for leaf in leaves]
        begun: list[Row] = []
        loss = _Sink.apply(begun, alone, *leaves)
        del outputs, leaves, args, kwargs
        held = [place for place, storage in enumerate(storages) if alone.is_alive(storage[0])]
        kept = tuple(float(sum(storages[place][1][kind] for place in held)) for kind in range(3))
        retained = above([alone.now], kept)[0]
        loss.backward()
        backward = above(alone.rows[int(begun[1][0]) :], begun[0])
        for parameter in parameters:
            parameter.grad = None
    return BlockTrace(rows, retained, backward, made, structure, tuple(held))


def _own(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    own = torch.empty(leaf.shape, dtype=leaf.dtype)
    return own.requires_grad_(leaf.requires_grad)


@contextmanager
def _no_cache() -> Iterator[None]:
    was = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(was)
