"""What a scoring method costs: time, evaluations of the network forwards and backwards, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ScoringCost:
    """Cost of scoring the units of a backbone once, comparable between methods on one kind of device.

    ``seconds`` of wall clock. ``network_evaluations``: latents that the backbone was asked about, a guided one twice, for
    it is denoised with and without its text. ``backward_evaluations``: those among them that a gradient went back through.
    ``peak_memory_bytes``: on CUDA the most memory that torch held at a time, weights included; else by how much the
    process's resident memory rose above where it stood at the start, looked at after every forward pass. A resumed
    scoring adds up what its parts cost, of memory it tells the largest; work that was lost with the interruption does
    not count.
    """

    seconds: float = 0.0
    network_evaluations: int = 0
    backward_evaluations: int = 0
    peak_memory_bytes: int = 0

    def __add__(self, other: ScoringCost) -> ScoringCost:
        return ScoringCost(
            self.seconds + other.seconds,
            self.network_evaluations + other.network_evaluations,
            self.backward_evaluations + other.backward_evaluations,
            max(self.peak_memory_bytes, other.peak_memory_bytes),
        )


class Meter:
    """Counts while it hangs on a backbone; ``before`` is what earlier parts of the work have cost."""

    def __init__(self, device: torch.device) -> None:
        self.before = ScoringCost()
        self._device = device
        self._process = psutil.Process()
        self._evaluations = self._backward = 0
        self._begun = time.perf_counter()
        self._start_bytes = self._peak_bytes = self._resident()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @contextmanager
    def on(self, backbone: nn.Module) -> Iterator[Meter]:
        """Count the backbone's evaluations inside."""
        handle = backbone.register_forward_hook(self._see)
        try:
            yield self
        finally:
            handle.remove()

    @property
    def cost(self) -> ScoringCost:
        """What all has cost up to now."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = self._peak_bytes - self._start_bytes
        own = ScoringCost(time.perf_counter() - self._begun, self._evaluations, self._backward, peak)
        return self.before + own

    @property
    def own_seconds(self) -> float:
        """Seconds since this meter began, without earlier parts."""
        return time.perf_counter() - self._begun

    def _see(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        answer: Tensor = output[0]
        count = len(answer)
        self._evaluations += count
        self._peak_bytes = max(self._peak_bytes, self._resident())
        if answer.requires_grad:
            answer.register_hook(lambda _gradient: self._count_backward(count))

    def _count_backward(self, count: int) -> None:
        self._backward += count

    def _resident(self) -> int:
        return 0 if self._device.type == "cuda" else int(self._process.memory_info().rss)
