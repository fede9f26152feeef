"""How the processes of a team share one objective: alone, with a copy each (DDP), or with a shard each (FSDP2).

The loss of a batch is the mean over its images however they are dealt out, so a process weighs its own mean by its
images; both strategies average over processes, hence the factor ``size`` in :meth:`Whole.weight`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from training.averages.ema import WeightAverage
from training.errors import FoundryError
from training.loop.processes import Span, Team
from training.objectives import Objective, StatefulObjective
from training.randomness import Draw
from training.recipes.execution import Execution
from training.recipes.objectives import OBJECTIVES


class _Loss(nn.Module):
    """The objective's loss as a module, so that wrappers see one call however the objective uses its modules."""

    _ddp_params_and_buffers_to_ignore: list[str]

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.module = objective.module
        # Buffers are constants that every process built alike; DistributedDataParallel need not send them each step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self._loss = objective.loss

    def forward(self, batch: Any, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        return self._loss(batch, draw)


class Whole:
    """One process that holds and computes everything."""

    def __init__(self, objective: Objective, team: Team) -> None:
        self.objective, self.team = objective, team

    def loss(self, batch: Any, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The objective's loss over this process's images."""
        return self.objective.loss(batch, draw)

    def weight(self, span: Span, batch_images: int) -> float:
        """What the mean loss of a pass counts in the batch."""
        return self.team.size * span.images / batch_images

    def passing(self, last: bool) -> AbstractContextManager[object]:
        """Around a forward and backward pass; gradients are sent where it pays, at the latest in the last one."""
        return nullcontext()

    def clip(self, parameters: Iterable[Tensor], limit: float) -> Tensor:
        """Bound the norm of the whole gradient; returns the norm before."""
        return torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole tensors, for the lead; all processes ask, the others get nothing they could use."""
        return dict(tensors)

    @contextmanager
    def presented(self, average: WeightAverage | None) -> Iterator[bool]:
        """Inside, the lead's objective holds plain whole weights, the average where one is given.

        All processes enter; yields whether this is the lead, who alone may use the objective.
        """
        if average is None or not self.team.is_lead:
            yield self.team.is_lead
            return
        with average.swapped_in():
            yield True


class Replicated(Whole):
    """Every process holds all weights and takes a part of the batch (DistributedDataParallel)."""

    def __init__(self, objective: Objective, team: Team) -> None:
        super().__init__(objective, team)
        self._wrapped = nn.parallel.DistributedDataParallel(_Loss(objective), gradient_as_bucket_view=True)

    def loss(self, batch: Any, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See :meth:`Whole.loss`."""
        loss: tuple[Tensor, dict[str, Tensor | float]] = self._wrapped(batch, draw)
        return loss

    def passing(self, last: bool) -> AbstractContextManager[object]:
        """Gradients of all passes of a step are sent with the last one."""
        return nullcontext() if last else self._wrapped.no_sync()


class Sharded(Whole):
    """Weights, gradients, optimiser state and average are cut into shards (FSDP2); a block is whole while it works.

    Gradients are sent after every pass: kept whole until the last one, they would need the memory that shards save.
    Weights lie in plain order, also where they were channels-last, for FSDP2 shards no other.
    """

    def __init__(self, objective: Objective, team: Team) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        super().__init__(objective, team)
        self._outline = _without_weights(objective.module)
        for parameter in objective.module.parameters():
            parameter.data = parameter.data.contiguous()
        device = next(objective.module.parameters()).device.type
        mesh = init_device_mesh(device, (team.size,))
        for block in sharding_blocks(objective.module):
            fully_shard(block, mesh=mesh)
        self._wrapped = _Loss(objective)
        fully_shard(self._wrapped, mesh=mesh)

    def loss(self, batch: Any, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See :meth:`Whole.loss`."""
        loss: tuple[Tensor, dict[str, Tensor | float]] = self._wrapped(batch, draw)
        return loss

    def clip(self, parameters: Iterable[Tensor], limit: float) -> Tensor:
        """See :meth:`Whole.clip`; the norm is taken over all shards."""
        return whole_tensor(super().clip(parameters, limit))

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`Whole.whole`."""
        gathered = {}
        for name, tensor in tensors.items():
            whole = whole_tensor(tensor.detach())
            if self.team.is_lead:
                gathered[name] = whole.clone()
        return gathered

    @contextmanager
    def presented(self, average: WeightAverage | None) -> Iterator[bool]:
        """See :meth:`Whole.presented`; a plain copy stands in for the shards, in the lead's memory."""
        sharded = self.objective.module
        averaged = average.tensors() if average else {}
        gathered = self.whole({**dict(sharded.named_parameters()), **averaged})
        if not self.team.is_lead:
            yield False
            return
        gathered |= {name: buffer.clone() for name, buffer in sharded.named_buffers()}
        self.objective.module = _with_weights(self._outline, gathered).train(sharded.training)
        try:
            yield True
        finally:
            self.objective.module = sharded


def distribute(objective: Objective, execution: Execution, team: Team, name: str) -> Whole:
    """Share the objective among the team; before the optimiser is built, which then holds this process's share.

    Raises FoundryError for an objective, given by ``name``, that several processes cannot share, or not so.
    """
    if team.size == 1:
        return Whole(objective, team)
    if OBJECTIVES[name].one_process:
        raise FoundryError(
            f"objective '{name}' compares all images of a batch with each other and trains with one process, found "
            f"{team.size}; set world_size in execution.json to 1 and start one"
        )
    if execution.strategy == "ddp":
        return Replicated(objective, team)
    if isinstance(objective, StatefulObjective):
        raise FoundryError(
            f"objective '{name}' keeps networks of its own that follow the weights, which shards do not allow; set "
            "strategy in execution.json to 'ddp'"
        )
    return Sharded(objective, team)


def sharding_blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated blocks that the model itself names as units (diffusers' ``_no_split_modules``), inner ones first."""
    names = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    return [part for part in reversed(list(module.modules())) if type(part).__name__ in names]


def whole_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or all shards of it put together; every process has to ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _without_weights(module: nn.Module) -> nn.Module:
    """A copy of the structure whose tensors lie on the meta device and take no memory."""
    memo: dict[int, Any] = {}
    for tensor in _tensors(module).values():
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(module, memo)


def _with_weights(outline: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """A copy of an outline that holds these tensors."""
    memo: dict[int, Any] = {}
    for name, empty in _tensors(outline).items():
        is_parameter = isinstance(empty, nn.Parameter)
        memo[id(empty)] = nn.Parameter(tensors[name], empty.requires_grad) if is_parameter else tensors[name]
    return copy.deepcopy(outline, memo)
