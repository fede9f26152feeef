"""Number formats of a training: weights stay in float32, the forward pass runs in the recipe's format.

bf16 needs nothing else. fp16 underflows: the loss is scaled up before the backward pass and gradients down after it,
by a factor that halves when a gradient overflows (Micikevicius et al. 2018). The factor is part of a checkpoint, so
that a resumed run meets the same one.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
GROUP = "loss_scale"
"""Name of the group in a checkpoint."""


def attention_of(format: torch.dtype | None, device_type: str) -> AbstractContextManager[object]:
    """Inside, attention is two matrix products where that is faster: on a CPU in bfloat16, whose fused kernel torch has
    takes six times as long backward as the one of float32, on the shapes of small models."""
    unfused = format is torch.bfloat16 and device_type == "cpu"
    return sdpa_kernel(SDPBackend.MATH) if unfused else nullcontext()


def slow_format_note(format: torch.dtype | None, device_type: str) -> list[str]:
    """A line for the log where this processor has no instructions for bfloat16 and float32 would be faster."""
    known_without = platform.machine() == "x86_64" and not (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    if format is not torch.bfloat16 or device_type != "cpu" or not known_without:
        return []
    return [
        "precision: bf16 is slower than fp32 on this processor, which has no AMX or AVX-512 bf16; use fp32"
    ]


class Precision:
    """Autocast and loss scaling for one of fp32, bf16 and fp16."""

    def __init__(self, name: str, device_type: str) -> None:
        self.format = FORMATS.get(name)
        self.device_type = device_type
        self.scaler = torch.amp.GradScaler(device_type) if name == "fp16" else None

    def autocast(self) -> AbstractContextManager[object]:
        """Inside, matrix products and convolutions run in the format."""
        return nullcontext() if self.format is None else torch.autocast(self.device_type, dtype=self.format)

    def attention(self) -> AbstractContextManager[object]:
        """How attention is computed, for the forward and the backward pass, which may compute the former again."""
        return attention_of(self.format, self.device_type)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call ``backward`` on."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Give gradients their true size, before they are clipped."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def norm_scalars(self, norm: Tensor) -> dict[str, Tensor]:
        """The gradient's norm for the log; in fp16 a step that overflows is left out and counted, it is no failure."""
        if self.scaler is None:
            return {"grad_norm": norm}
        finite = torch.isfinite(norm)
        return {"grad_norm": torch.where(finite, norm, 0.0), "count_overflow": (~finite).float()}

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step, unless fp16 gradients overflowed; the scale follows."""
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps: nothing but for fp16."""
        if self.scaler is None:
            return {}
        values = self.scaler.state_dict()
        return {GROUP: {name: torch.tensor(float(values[name])) for name in ("scale", "_growth_tracker")}}

    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put the saved scale back."""
        if self.scaler is not None:
            saved = tensors[GROUP]
            tracker = int(saved["_growth_tracker"])
            state = self.scaler.state_dict() | {"scale": float(saved["scale"]), "_growth_tracker": tracker}
            self.scaler.load_state_dict(state)
