"""What a training ran on, in one line that stands beside its wall seconds."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


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
