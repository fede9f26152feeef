"""What work runs on: its name, how many threads torch may take, and how data get there."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

_CPU_INFO = Path("/proc/cpuinfo")


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Torch's thread count inside the block, what it was after it; None leaves it as it is."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hardware_name(device: str, threads: int) -> str:
    """The GPU's name, or the processor's with the number of threads used."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    """The model name where the system tells one, else the architecture."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def sampling_device() -> str:
    """The accelerator of this process, where it sees one: a worker sees those that it was given."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(module: nn.Module) -> torch.device:
    """Where a model computes: where its trained weights lie, or else its first."""
    parameters = list(module.parameters())
    return next((p for p in parameters if p.requires_grad), parameters[0]).device


def to_device(array: np.ndarray | Tensor, device: str | torch.device) -> Tensor:
    """The array as a tensor on ``device``. To a GPU through pinned memory, since a copy from pageable memory blocks.

    On the CPU the tensor shares the array's memory.
    """
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
