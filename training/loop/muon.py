"""Muon: the momentum of a hidden matrix, with all its singular values brought near one, is the step (Jordan 2024).

Everything else (embeddings, norms, biases, first and last layers) is left to AdamW in the same optimiser. Steps of a
matrix are scaled to the root mean square of AdamW's, so that rates carry over (Liu et al. 2025, arXiv:2502.16982,
section 2.2). ``torch.optim.Muon`` is the same method for one matrix after the other and no convolutions; here matrices
of one shape are worked on at once, and a convolution is the matrix [out, in * height * width].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from training.loop.parallelism import whole_tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of the quintic a X + b X X^T X + c (X X^T)^2 X, steepest at zero (Jordan 2024)."""
NUM_ITERATIONS = 5
RMS_OF_ADAMW = 0.2
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Hidden matrices by Muon, other parameters by fused AdamW, with one state and one list of groups.

    ``matrix_rate``: learning rate of the matrices over that of the rest. Groups hold the rate of the rest in ``lr``.
    ``in_bfloat16``: steps are made orthogonal in bfloat16, on an accelerator always.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[dict[str, Any]],
        *,
        lr: float,
        matrix_rate: float,
        momentum: float,
        weight_decay: float,
        betas: tuple[float, float],
        eps: float,
        in_bfloat16: bool = False,
    ) -> None:
        group = {"params": list(matrices), "weight_decay": weight_decay}
        super().__init__([group, *others], {"lr": lr, "weight_decay": 0.0})
        self.matrix_rate, self.momentum, self.in_bfloat16 = matrix_rate, momentum, in_bfloat16
        own = [dict(group) for group in others]
        self._adamw = torch.optim.AdamW(own, lr=lr, betas=betas, eps=eps, fused=True) if own else None
        if self._adamw is not None:
            self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of all groups. A parameter without a gradient stays."""
        assert closure is None
        first, *others = self.param_groups
        if self._adamw is not None:
            for group, inner in zip(others, self._adamw.param_groups, strict=True):
                inner["lr"] = group["lr"]
            self._adamw.step()
        rate = first["lr"] * self.matrix_rate
        for parameters in _by_shape(first["params"]).values():
            moved = torch.stack([self._moved(parameter) for parameter in parameters])
            updates = orthogonalised(moved, in_bfloat16=self.in_bfloat16 or moved.is_cuda)
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - rate * first["weight_decay"])
                parameter.add_(_laid_out(update, parameter), alpha=-rate * scale_of(update))

    def _moved(self, parameter: nn.Parameter) -> Float[Tensor, "m n"]:
        """Nesterov's look ahead of the momentum, as a whole matrix."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - self.momentum)
        return whole_tensor(parameter.grad.lerp(state["momentum"], self.momentum)).flatten(1)


def orthogonalised(matrices: Float[Tensor, "b m n"], *, in_bfloat16: bool = False) -> Float[Tensor, "b m n"]:
    """U V^T of every matrix's U S V^T, roughly: singular values come out between about 0.7 and 1.2.

    ``in_bfloat16`` is many times faster where the hardware has it and no worse (Jordan 2024).
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    if in_bfloat16:
        x = x.bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=EPSILON)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)


def scale_of(matrix: Float[Tensor, "m n"]) -> float:
    """What an orthogonal step is multiplied with to have the root mean square of AdamW's."""
    return RMS_OF_ADAMW * max(matrix.shape) ** 0.5


def _by_shape(parameters: Sequence[nn.Parameter]) -> dict[tuple[int, ...], list[nn.Parameter]]:
    found: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            found[parameter.shape].append(parameter)
    return found


def _laid_out(update: Float[Tensor, "m n"], parameter: nn.Parameter) -> Tensor:
    """An update in the shape of its parameter, and in its shards where it is cut into some."""
    update = update.reshape(parameter.shape)
    if not isinstance(parameter.data, DTensor):
        return update
    whole = DTensor.from_local(update, parameter.data.device_mesh, [Replicate()])
    return whole.redistribute(placements=parameter.data.placements)
