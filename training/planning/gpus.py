"""GPUs that a plan can be made for. This module is light: it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from training.errors import FoundryError
from training.recipes.validation import nearest


@dataclass(frozen=True)
class Gpu:
    """Peak rates in FLOPs a second without sparsity, and memory in bytes, as the vendor states them (SXM boards).

    ``fp32_peak``: of plain fp32, which is what torch uses for fp32 products unless told otherwise.
    """

    name: str
    bf16_peak: float
    fp32_peak: float
    memory_bytes: int

    def peak(self, precision: str) -> float:
        """The rate that a recipe's number format can reach; fp16 has bf16's."""
        return self.fp32_peak if precision == "fp32" else self.bf16_peak


GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        "h100": Gpu("H100", 989e12, 67e12, 80 * 10**9),
        "h200": Gpu("H200", 989e12, 67e12, 141 * 10**9),
        "a100": Gpu("A100", 312e12, 19.5e12, 80 * 10**9),
        "a100-40": Gpu("A100 40GB", 312e12, 19.5e12, 40 * 10**9),
        "l40s": Gpu("L40S", 362e12, 91.6e12, 48 * 10**9),
        "b200": Gpu("B200", 2250e12, 80e12, 180 * 10**9),
    }
)

USABLE_SHARE = 0.92
"""Of a GPU's memory; the rest is for CUDA's context, communication buffers and what allocation wastes (assumed)."""


def gpu_named(name: str) -> Gpu:
    """Look a GPU up, whatever the case. Raises FoundryError with the nearest known name."""
    found = GPUS.get(name.lower())
    if found is None:
        raise FoundryError(f"--gpu is '{name}'; {nearest(name.lower(), list(GPUS))}")
    return found
