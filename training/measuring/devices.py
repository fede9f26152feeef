"""What a device can do at most, how long work takes on it, and how much memory it took."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from training.hardware import hardware_name
from training.planning.gpus import GPUS


def peak_flops(device: str) -> float | None:
    """Dense bf16 peak of this device, None where the table does not know it."""
    name = hardware_name(device, torch.get_num_threads())
    return next((gpu.bf16_peak for gpu in GPUS.values() if gpu.name in name), None)


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median of several, the first one apart, and the most memory that was in use."""

    seconds: float
    first_seconds: float
    peak_bytes: int | None


def time_calls(call: Callable[[], object], device: str, *, warmup: int, calls: int) -> Timing:
    """Time ``call``; on a GPU the host waits for it before the clock is read. Memory is None on a CPU."""
    begun = time.perf_counter()
    call()
    _wait(device)
    first = time.perf_counter() - begun
    for _ in range(warmup):
        call()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    _wait(device)
    seconds = []
    for _ in range(calls):
        begun = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return Timing(statistics.median(seconds), first, peak)


def host_synchronisations(call: Callable[[], object], device: str) -> int | None:
    """How often the host waits for the GPU during a call; None without a GPU."""
    if device != "cuda":
        return None
    call()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
