"""Milliseconds of a forward pass by part: every moment of the call belongs to the part that was running."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from evaluation.analysis.parts import Part, parts_of
from training.backbones import Inputs
from training.errors import FoundryError


@dataclass(frozen=True)
class Timing:
    """One forward pass: the one of median length among ``runs``. The parts add up to it exactly, in nanoseconds."""

    parts: Mapping[Part, int]
    runs: int

    @property
    def total(self) -> int:
        """Nanoseconds of the whole pass."""
        return sum(self.parts.values())


def time_parts(model: nn.Module, inputs: Inputs, *, runs: int = 5, warm_up: int = 1) -> Timing:
    """Time ``runs`` forward passes without gradients after ``warm_up`` and return the median one.

    Hooks stand only where the part changes. On a GPU each of these places waits for the device, so the parts are
    true and the total is above what an undisturbed pass takes. Raises FoundryError when ``runs`` is even: no
    single pass is the median then.
    """
    if runs < 1 or runs % 2 == 0:
        raise FoundryError(f"runs is {runs}; an odd number is needed, so that one pass is the median; use 5")
    clock = _Clock(next(model.parameters()).is_cuda)
    passes: list[dict[Part, int]] = []
    with _watched(model, clock), torch.inference_mode():
        for number in range(warm_up + runs):
            clock.start()
            inputs.call(model)
            spent = clock.stop()
            if number >= warm_up:
                passes.append(spent)
    passes.sort(key=lambda spent: sum(spent.values()))
    return Timing(passes[runs // 2], runs)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Torch's threads for a while; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
