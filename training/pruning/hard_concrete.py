"""Masks that can be learned: EcoDiff's hard concrete relaxation of "kept or removed", and what pulls towards removal.

Each unit has a raw logit lambda; u is uniform in [0, 1). With noise n(u) = ln(u + delta) - ln(1 - u + delta),

    s = sigmoid((n(u) + lambda) / alpha),    M = clamp(s (zeta - gamma) + gamma, 0, 1)

(EcoDiff, arXiv 2412.02852, official code; Louizos et al. 2018, arXiv 1712.01312, eqs. 10 and 11, with delta = 0). delta is no
tiny number against overflow: it bounds the noise to +-ln((1 + delta) / delta), so that M is certain beyond a threshold of
lambda, where no gradient reaches lambda but the regulariser's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from training.errors import FoundryError

_MIDPOINTS = 4096  # of the quadrature over u; its error at the kinks of M is below 1 in a million


@dataclass(frozen=True)
class HardConcrete:
    """The relaxation's four constants. Raises FoundryError for ones that describe no mask."""

    alpha: float = 0.83
    zeta: float = 1.1
    gamma: float = -0.1
    delta: float = 0.5

    def __post_init__(self) -> None:
        bounds = {
            "alpha": (self.alpha > 0, "above 0"),
            "zeta": (self.zeta > 1, "above 1, so that a mask can be exactly 1"),
            "gamma": (self.gamma < 0, "below 0, so that a mask can be exactly 0"),
            "delta": (self.delta > 0, "above 0, so that the noise is bounded"),
        }
        for name, (holds, allowed) in bounds.items():
            if not holds:
                raise FoundryError(
                    f"hard concrete: '{name}' is {getattr(self, name):g}; it must be {allowed}"
                )

    def sample(self, logits: Float[Tensor, " units"], u: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
        """M of each unit for its u, differentiable in lambda where 0 < M < 1."""
        noise = torch.log(u + self.delta) - torch.log(1 - u + self.delta)
        return self._stretched(torch.sigmoid((noise + logits) / self.alpha))

    def median(self, logits: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
        """M without noise, at u = 1/2: half of all draws lie above, half below."""
        return self._stretched(torch.sigmoid(logits / self.alpha))

    def mean(self, logits: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
        """Expected M over u, by quadrature."""
        u = (torch.arange(_MIDPOINTS, dtype=logits.dtype, device=logits.device) + 0.5) / _MIDPOINTS
        noise = torch.log(u + self.delta) - torch.log(1 - u + self.delta)
        total = torch.zeros_like(logits)
        for part in noise.split(256):  # a grid of all units and all u would be large
            total = total + self._stretched(torch.sigmoid((part + logits[:, None]) / self.alpha)).sum(1)
        return total / _MIDPOINTS

    def _stretched(self, s: Tensor) -> Tensor:
        return (s * (self.zeta - self.gamma) + self.gamma).clamp(0, 1)


def mean_l1(layers: Sequence[Float[Tensor, " _"]]) -> Float[Tensor, ""]:
    """R of SDXL, SD2 and SD3: the mean over layers of ||lambda||_1 / len(lambda). It pulls towards 0 and not below."""
    return torch.stack([logits.abs().mean() for logits in layers]).mean()


def mean_sigmoid(
    layers: Sequence[Float[Tensor, " _"]], scale: float = 0.4, offset: float = 1.0
) -> Float[Tensor, ""]:
    """R of FLUX: the same of sigmoid(scale lambda + offset), which goes on pulling below 0."""
    return mean_l1([torch.sigmoid(scale * logits + offset) for logits in layers])


def expected_l0(layers: Sequence[Float[Tensor, " _"]], hard_concrete: HardConcrete) -> Float[Tensor, ""]:
    """Sum of sigmoid(lambda - alpha ln(-gamma / zeta)) over units, by the number of layers.

    Louizos et al. 2018, eq. 12: the expected number of units left, were delta 0.
    """
    shift = hard_concrete.alpha * math.log(-hard_concrete.gamma / hard_concrete.zeta)
    return torch.stack([torch.sigmoid(logits - shift).sum() for logits in layers]).sum() / len(layers)
