"""Bytes that real steps of the loop hold, as torch's profiler sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from training.conditioning import Condition
from training.loop.loop import Loop
from training.objectives.noised import NoisedObjective


def bytes_of(tensors: list[Tensor]) -> int:
    """Bytes of tensors that share nothing."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def kept_bytes(loop: Loop) -> int:
    """Weights, moments and averages as they lie in memory between steps."""
    moments = [value for state in loop.optimizer.state.values() for value in state.values()]
    averages = [tensor for average in loop.averages.values() for tensor in average.average]
    return bytes_of([*loop.module.parameters(), *moments, *averages])


def unseen_bytes(loop: Loop, images: int) -> int:
    """What a pass reads into memory that numpy allocates, which torch's profiler does not see: the noise at least."""
    objective = loop.objective
    assert isinstance(objective, NoisedObjective)
    draw = loop.order.draw(0, images)
    with _profiled() as profiler:
        batch = objective.load(draw)
    seen = int(_live_bytes(profiler)[-1])
    return bytes_of([batch.latents, *_told(batch.condition)]) - seen + bytes_of([batch.latents])


def step_peak(loop: Loop) -> int:
    """Most bytes that torch holds within a step, above what it held before."""
    loop._step()
    with _profiled() as profiler:
        loop._step()
    return int(_live_bytes(profiler).max())


def _told(condition: Condition) -> list[Tensor]:
    layout = condition.layout
    placed = [] if layout is None else [layout.boxes_xyxy_norm, layout.phrases, layout.there]
    pooled = [] if condition.pooled is None else [condition.pooled]
    return [condition.states, condition.mask, *pooled, *placed]


def _profiled() -> profile:
    return profile(activities=[ProfilerActivity.CPU], profile_memory=True)


def _live_bytes(profiler: profile) -> np.ndarray:
    """Bytes above those at the beginning, after every allocation and release; the first is 0."""
    inner: Any = profiler.profiler
    events = [event for event in inner.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return np.cumsum([0, *(event.nbytes() for event in events)])
