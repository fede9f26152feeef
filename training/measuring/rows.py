"""What every measurement shares: its type, the smallest relatives that stand in for a smoke run, and batches that fit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from training.measuring.devices import Timing

Row = dict[str, Any]
Measurement = Callable[[str, bool], Row]
"""(device, smoke) -> what was measured; smoke runs the smallest relatives for a step or two."""

SMOKE_BACKBONE = {
    "SDXL": "UNet-tiny",
    "SD2": "UNet-tiny",
    "SDXL-TD4_4": "UNet-tiny",
    "PixArt-h1152-d28": "PixArt-tiny",
    "SDXL-stock": "UNet-demo-c48-l2",  # with pairs and layers that a student can leave out
    "KOALA-1B": "UNet-tiny",
    "KOALA-700M": "UNet-tiny",
    "FLUX.1-schnell": "FLUX-demo-h64-d2-s4",
}


def backbone_of(name: str, smoke: bool) -> str:
    """The registered backbone that is measured under this name."""
    return SMOKE_BACKBONE[name] if smoke else name


def gib(count: int | None) -> float | None:
    """Bytes in GiB."""
    return None if count is None else count / 2**30


def time_and_memory(timing: Timing) -> Row:
    """Milliseconds of one call and the most memory that was in use."""
    return {"milliseconds": 1e3 * timing.seconds, "peak_gib": gib(timing.peak_bytes)}


def largest_that_fits(measure: Callable[[int], Row], batch_sizes: Sequence[int]) -> Row:
    """The measurement at the first of these batch sizes that fits the device.

    Raises torch.OutOfMemoryError when not even the last one does.
    """
    for batch_size in batch_sizes[:-1]:
        try:
            return measure(batch_size)
        except torch.OutOfMemoryError:
            pass  # its tensors go with the exception, which must have ended before the next try
        release_memory()
    return measure(batch_sizes[-1])


def release_memory() -> None:
    """Let go of what is no longer reachable, so that the next peak is its own."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
