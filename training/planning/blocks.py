"""Repeated blocks are simulated once, alone; where they appear again their moments are pasted.

Without it a transformer of 70 equal blocks would be walked through 70 times: seconds for each backbone of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from training.backbones import TRANSFORMER_BLOCKS
from training.planning.live_bytes import LiveBytes, Row, above, highest

REPEATED = (*TRANSFORMER_BLOCKS, "ResnetBlock2D", "Attention")


@dataclass(frozen=True)
class BlockTrace:
    """What one block does to the live bytes, relative to its beginning and to the beginning of its backward pass."""

    forward: list[Row]
    retained: Row  # held for the backward pass, its output not counted
    backward: list[Row]
    outputs: list[tuple[torch.Size, torch.dtype] | None]  # None where the block gives none
    structure: Any  # how the outputs are nested
    held_inputs: tuple[int, ...]  # places among the tensor inputs of those that are held too
    gradient_bytes: int
    forward_macs: int
    backward_macs: int


_TRACES: dict[Any, BlockTrace] = {}


class Pasted:
    """The blocks of one simulation, whose cast weights live to the end of the forward pass as autocast keeps them."""

    def __init__(self, live: LiveBytes, prepare: Callable[[nn.Module], None], device: str) -> None:
        self.live = live
        self.device = device
        self.prepare = prepare
        self.in_forward = True
        self.casts: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def forward_ended(self) -> None:
        """Autocast's cache is emptied."""
        self.in_forward = False
        self.casts.clear()


@contextmanager
def pasted_blocks(
    model: nn.Module, live: LiveBytes, prepare: Callable[[nn.Module], None], device: str
) -> Iterator[Pasted]:
    """While it lasts, repeated blocks of the model are pasted instead of walked through.

    ``prepare`` is called with a block that has to be walked through once, to make its weights fake. Traces
    of one kind of ``device`` are not taken for another.
    """
    pasted = Pasted(live, prepare, device)
    blocks = list(repeated_blocks(model))
    for block in blocks:
        vars(block)["forward"] = _Forward(block, pasted)
    try:
        yield pasted
    finally:
        for block in blocks:
            del vars(block)["forward"]


def repeated_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Blocks of :data:`REPEATED` inside a model, outermost ones alone."""
    for child in module.children():
        if type(child).__name__ in REPEATED:
            yield child
        else:
            yield from repeated_blocks(child)


class _Forward:
    """A block's forward: looks up its trace, and makes an output whose backward pass pastes it."""

    def __init__(self, block: nn.Module, pasted: Pasted) -> None:
        self.block, self.pasted = block, pasted
        self.forward = block.forward
        self.shapes = _structure(block)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        key = (self.shapes, spec, tuple(_kind(leaf) for leaf in leaves), _formats(), self.pasted.device)
        if key not in _TRACES:
            self.pasted.prepare(self.block)
            parameters = list(self.block.parameters())
            _TRACES[key] = trace_block(self.forward, parameters, args, kwargs, self.pasted.live)
        trace = _TRACES[key]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        made = iter(_Paste.apply(trace, self.pasted, *tensors))
        outputs = [None if output is None else next(made) for output in trace.outputs]
        return tree_unflatten(outputs, trace.structure)


def _structure(block: nn.Module) -> Any:
    return tuple(
        (
            type(part).__name__,
            getattr(part, "heads", None),
            tuple((p.shape, p.dtype, p.requires_grad) for p in part.parameters(recurse=False)),
        )
        for part in block.modules()
    )


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.dtype, leaf.requires_grad
    return repr(leaf)


def _formats() -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")


class _Paste(torch.autograd.Function):
    """Stands for a block: holds a lump of the size of what the block would hold, and pastes its moments."""

    @staticmethod
    def forward(ctx: Any, trace: BlockTrace, pasted: Pasted, *tensors: Tensor) -> tuple[Tensor, ...]:
        live = pasted.live
        live.paste(trace.forward)
        live.macs += trace.forward_macs
        lump = live.lump((trace.retained[0], trace.retained[1], 0))
        casts = live.lump((0, 0, trace.retained[2]))
        if pasted.in_forward:
            pasted.casts.append(casts)
        held = [tensors[place] for place in trace.held_inputs]
        ctx.save_for_backward(lump, casts, *held)
        ctx.trace, ctx.pasted = trace, pasted
        ctx.shapes = [(tensor.shape, tensor.dtype) for tensor in tensors]
        return tuple(torch.empty(made[0], dtype=made[1]) for made in trace.outputs if made is not None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        lump, casts, *_ = ctx.saved_tensors
        live = ctx.pasted.live
        live.paste(ctx.trace.backward)
        live.macs += ctx.trace.backward_macs
        live.drop(lump)
        live.drop(casts)
        ctx.pasted.gradients.append(live.lump((0, ctx.trace.gradient_bytes, 0)))
        wanted = zip(ctx.needs_input_grad[2:], ctx.shapes, strict=True)
        made = [torch.empty(shape, dtype=dtype) if needed else None for needed, (shape, dtype) in wanted]
        return (None, None, *made)


class _Sink(torch.autograd.Function):
    """Ends a block's graph without holding its outputs; its backward pass hands in their gradients."""

    @staticmethod
    def forward(ctx: Any, begun: list[tuple[Row, int]], live: LiveBytes, *outputs: Tensor) -> Tensor:
        ctx.begun, ctx.live = begun, live
        ctx.shapes = [(output.shape, output.dtype) for output in outputs]
        return torch.empty(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Any:
        gradients = [torch.empty(shape, dtype=dtype) for shape, dtype in ctx.shapes]
        ctx.begun.append((ctx.live.now, len(ctx.live.rows)))
        return (None, None, *gradients)


def trace_block(
    forward: Any, parameters: Sequence[Tensor], args: Any, kwargs: Any, outer: LiveBytes
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
        storages = [alone.size(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        start, first = alone.now, len(alone.rows)
        outputs = forward(*args, **kwargs)
        forward_macs = alone.macs
        leaves, structure = tree_flatten(outputs)
        rows = above(alone.rows[first:], start)
        made = [None if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves]
        begun: list[tuple[Row, int]] = []
        loss = _Sink.apply(begun, alone, *(leaf for leaf in leaves if leaf is not None))
        del outputs, leaves, args, kwargs
        held = [place for place, storage in enumerate(storages) if alone.is_alive(storage[0])]
        counts = [storages[place][1] for place in held]
        kept = (sum(row[0] for row in counts), sum(row[1] for row in counts), sum(row[2] for row in counts))
        retained = above([alone.now], kept)[0]
        loss.backward()
        [(row_before, place_before)] = begun
        backward = above(alone.rows[place_before:], row_before)
        gradient_bytes = sum(4 * p.numel() for p in parameters if p.grad is not None)
        for parameter in parameters:
            parameter.grad = None
    return BlockTrace(
        highest(rows),
        retained,
        highest(backward),
        made,
        structure,
        tuple(held),
        gradient_bytes,
        forward_macs,
        alone.macs - forward_macs,
    )


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
