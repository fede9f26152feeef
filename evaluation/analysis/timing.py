"""Milliseconds of a forward pass by part: every moment of the call belongs to the part that was running."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from evaluation.analysis.parts import Part, parts_of
from training.backbones import Inputs
from training.errors import FoundryError


@dataclass(frozen=True)
class Timing:
    """Nanoseconds of a forward pass, medians over ``runs`` passes.

    ``parts``: of each part, so that one hiccup does not mark a part; ``undisturbed``: of a whole pass without hooks.
    """

    parts: Mapping[Part, int]
    undisturbed: int
    runs: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def time_parts(model: nn.Module, inputs: Inputs, *, runs: int = 5, warm_up: int = 2) -> Timing:
    """Time ``runs`` forward passes without gradients after ``warm_up``, part by part, and as many undisturbed.

    Hooks stand only where the part changes. On a GPU each of these places waits for the device, so the parts are
    true and their sum is above what an undisturbed pass takes. Raises FoundryError for less than one run.
    """
    if runs < 1:
        raise FoundryError(f"runs is {runs}; at least 1 pass is needed to time one; use 5")
    clock = _Clock(next(model.parameters()).is_cuda)
    passes, whole = [], []
    with torch.inference_mode():
        for _ in range(warm_up):
            inputs.call(model)
        for _ in range(runs):  # in turn, so that both meet the same machine
            whole.append(_pass(model, inputs, clock))
            with _watched(model, clock):
                passes.append(_pass(model, inputs, clock))
    parts = {part: round(median(spent[part] for spent in passes)) for part in passes[0]}
    return Timing(parts, round(median(sum(spent.values()) for spent in whole)), runs)


def _pass(model: nn.Module, inputs: Inputs, clock: _Clock) -> dict[Part, int]:
    clock.start()
    inputs.call(model)
    return clock.stop()


class _Clock:
    """Credits the time since the last mark to the part on top of the stack."""

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        self.spent: dict[Part, int] = {}
        self.stack: list[Part] = []
        self.last = 0

    def start(self) -> None:
        self.spent, self.stack = {}, [Part("between", "rest")]
        self._wait()
        self.last = time.perf_counter_ns()

    def stop(self) -> dict[Part, int]:
        self._mark()
        return self.spent

    def enter(self, part: Part) -> None:
        self._mark()
        self.stack.append(part)

    def leave(self) -> None:
        self._mark()
        self.stack.pop()

    def _mark(self) -> None:
        self._wait()
        now = time.perf_counter_ns()
        part = self.stack[-1]
        self.spent[part] = self.spent.get(part, 0) + now - self.last
        self.last = now

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


@contextmanager
def _watched(model: nn.Module, clock: _Clock) -> Iterator[None]:
    """While it lasts, modules at which the part changes tell the clock."""
    parts, handles = parts_of(model), []
    for name, module in model.named_modules():
        part = parts[name]
        if not name or parts[_parent(name, parts)] == part:
            continue
        handles.append(module.register_forward_pre_hook(lambda *_, part=part: clock.enter(part)))
        handles.append(module.register_forward_hook(lambda *_: clock.leave()))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parent(name: str, parts: Mapping[str, Part]) -> str:
    above = name.rpartition(".")[0]
    return above if above in parts else ""
