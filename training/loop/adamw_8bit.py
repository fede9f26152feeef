"""AdamW whose moments are kept in 8 bits: a quarter of float32's memory, 2 bytes a weight instead of 8.

Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization": values are divided by the largest of their block
of 256 and stored as the number of the nearest of 256 code values, which lie dense near zero (the dynamic data type,
section 1.3). Plain torch, so that the state is a set of tensors like any other and resumes bit-equal on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

BLOCK = 256
SMALLEST = 4096
"""Tensors with fewer numbers keep float32 moments: they take no memory to speak of, and biases and norms are delicate."""

_DECADES = 7


@lru_cache(maxsize=8)
def code_values(signed: bool, device: str = "cpu") -> Float[Tensor, " 256"]:
    """The 256 values that a byte stands for, ascending in [-1, 1] or [0, 1].

    Each decade below 1 has twice as many values as the next smaller one; 0 and 1 are among them.
    """
    values = [0.0, 1.0]
    for decade in range(_DECADES):
        count = 2**decade * (1 if signed else 2)
        edges = torch.linspace(0.1, 1.0, count + 1, dtype=torch.float64)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - _DECADES + 1)
        values += middles.tolist()
        values += (-middles).tolist() if signed else []
    return torch.tensor(sorted(values), dtype=torch.float32, device=device)


@lru_cache(maxsize=8)
def _borders(signed: bool, device: str) -> Float[Tensor, " 255"]:
    values = code_values(signed, device)
    return (values[:-1] + values[1:]) / 2


def encode(
    values: Float[Tensor, " n"], *, signed: bool
) -> tuple[UInt8[Tensor, " n"], Float[Tensor, " blocks"]]:
    """Codes of some numbers and the largest magnitude of each block of 256."""
    padded = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    scales = padded.abs().amax(1)
    unit = padded / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    codes = torch.bucketize(unit, _borders(signed, str(values.device)))
    return codes.to(torch.uint8).view(-1)[: len(values)].contiguous(), scales


def decode(
    codes: UInt8[Tensor, " n"], scales: Float[Tensor, " blocks"], *, signed: bool
) -> Float[Tensor, " n"]:
    """The numbers that codes stand for; the inverse of :func:`encode` up to rounding."""
    values = code_values(signed, str(codes.device))[codes.int()]
    return values.mul_(scales.repeat_interleave(BLOCK)[: len(values)])


class EightBitAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) with 8-bit moments for tensors of 4096 numbers or more.

    State of a large tensor: ``exp_avg`` and ``exp_avg_sq`` as flat bytes, ``exp_avg_scale`` and
    ``exp_avg_sq_scale`` in float32, ``step``; of a small one what torch.optim.AdamW keeps.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
        state["step"] += 1
        step, (beta1, beta2) = int(state["step"]), group["betas"]
        gradient = parameter.grad
        assert gradient is not None
        first = _moment(state, "exp_avg", parameter, signed=True).lerp_(gradient.float(), 1 - beta1)
        second = _moment(state, "exp_avg_sq", parameter, signed=False)
        second.mul_(beta2).addcmul_(gradient.float(), gradient.float(), value=1 - beta2)
        spread = (second / (1 - beta2**step)).sqrt_().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(first, spread, value=-group["lr"] / (1 - beta1**step))
        _keep(state, "exp_avg", first, signed=True)
        _keep(state, "exp_avg_sq", second, signed=False)


def _moment(state: dict[str, Tensor], name: str, parameter: Tensor, *, signed: bool) -> Tensor:
    """A moment in float32, shaped like its parameter; zero before the first step."""
    if name not in state:
        return torch.zeros_like(parameter, dtype=torch.float32, memory_format=torch.contiguous_format)
    if state[name].dtype != torch.uint8:
        return state[name]
    return decode(state[name], state[f"{name}_scale"], signed=signed).view(parameter.shape)


def _keep(state: dict[str, Tensor], name: str, moment: Tensor, *, signed: bool) -> None:
    if moment.numel() < SMALLEST:
        state[name] = moment
    else:
        state[name], state[f"{name}_scale"] = encode(moment.flatten(), signed=signed)
