"""How latents are noised and what the network predicts, for training, sampling and measuring alike.

The noise level ``t`` runs from 0 (clean) to 1 (pure noise); ``x_t = alpha(t) x_0 + sigma(t) eps``.
``flow``: alpha = 1 - t, sigma = t, target eps - x_0 (rectified flow). ``clean``: the same path, target x_0 itself:
a small network need not carry the noise through, which costs it most of its width (Li and He 2025). ``epsilon`` and ``v``: DDPM with 1000
betas (latent diffusion's by default: scaled-linear from 0.00085 to 0.012), at index floor(1000 t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

NUM_TIMESTEPS = 1000


BETAS: Mapping[str, tuple[str, float, float]] = MappingProxyType(
    {
        "scaled_linear": ("scaled_linear", 0.00085, 0.012),
        "linear": ("linear", 1e-4, 0.02),
        "cosine": ("squaredcos_cap_v2", 1e-4, 0.02),
    }
)
"""Beta schedules by name: what diffusers calls them, first and last beta (the cosine one has none, they are unused)."""


PREDICTION_TYPES: Mapping[str, str] = MappingProxyType(
    {"flow": "flow_prediction", "clean": "sample", "epsilon": "epsilon", "v": "v_prediction"}
)
"""Predictions by our name: what schedulers of diffusers call them."""


@lru_cache(maxsize=8)
def alphas_cumprod(
    schedule: str = "scaled_linear", zero_terminal_snr: bool = False
) -> Float[Tensor, " 1000"]:
    """Product of 1 - beta up to each DDPM index, float64.

    ``scaled_linear``: latent diffusion; ``linear``: Ho et al. 2020; ``cosine``: Nichol and Dhariwal 2021, eq. 17.
    ``zero_terminal_snr`` shifts and scales the square roots so that the last is 0 and the first stays (Lin et al. 2023,
    algorithm 1).
    """
    kept = torch.cumprod(1 - _betas(schedule), 0)
    if not zero_terminal_snr:
        return kept
    root = kept.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _betas(schedule: str) -> Float[Tensor, " 1000"]:
    _, first, last = BETAS[schedule]
    if schedule == "cosine":
        time = torch.arange(NUM_TIMESTEPS + 1, dtype=torch.float64) / NUM_TIMESTEPS
        level = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - level[1:] / level[:-1]).clamp(max=0.999)
    power = 0.5 if schedule == "scaled_linear" else 1.0
    return torch.linspace(first**power, last**power, NUM_TIMESTEPS, dtype=torch.float64) ** (1 / power)


@dataclass(frozen=True)
class Noising:
    """One noise process: ``prediction`` is flow, clean, epsilon or v; the schedule counts for the last two alone."""

    prediction: str
    schedule: str = "scaled_linear"
    zero_terminal_snr: bool = False

    @property
    def is_flow_path(self) -> bool:
        """Whether noise is mixed in along straight lines, x_t = (1 - t) x_0 + t eps."""
        return self.prediction in ("flow", "clean")

    def coefficients(
        self, t: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
        """alpha(t) and sigma(t) as float32, shaped to broadcast over latents."""
        if self.is_flow_path:
            alpha, sigma = 1 - t, t
        else:
            kept = alphas_cumprod(self.schedule, self.zero_terminal_snr).to(t.device)[self._index(t)]
            alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        return alpha.float()[:, None, None, None], sigma.float()[:, None, None, None]

    def timestep(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """What the network is told: 1000 t on the flow path, the DDPM index else."""
        return (t * NUM_TIMESTEPS).float() if self.is_flow_path else self._index(t).float()

    def add_noise(
        self, clean: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """x_t = alpha x_0 + sigma eps."""
        alpha, sigma = self.coefficients(t)
        return alpha * clean + sigma * noise

    def target(
        self, clean: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """What the network should say: eps - x_0 for flow, eps, or v = alpha eps - sigma x_0."""
        if self.prediction == "flow":
            return noise - clean
        if self.prediction == "clean":
            return clean
        if self.prediction == "epsilon":
            return noise
        alpha, sigma = self.coefficients(t)
        return alpha * noise - sigma * clean

    def clean(
        self, noisy: Float[Tensor, "b c h w"], output: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The clean latent that the network's output implies; t must be below 1 for epsilon to tell."""
        alpha, sigma = self.coefficients(t)
        if self.prediction == "flow":
            return noisy - sigma * output
        if self.prediction == "clean":
            return output
        if self.prediction == "epsilon":
            return (noisy - sigma * output) / alpha
        return alpha * noisy - sigma * output

    def min_snr_weights(self, t: Float[Tensor, " b"], gamma: float) -> Float[Tensor, " b"]:
        """Weights of the squared error of the output that weigh the clean latent's by min(SNR, gamma).

        Hang et al. 2023, eq. 4 and section 3.4: SNR = alpha^2 / sigma^2, times the square of how far an error of the
        output moves the clean latent: sigma^2 / alpha^2 for epsilon, sigma^2 for v and flow, 1 for clean.
        """
        alpha, sigma = (part.flatten() for part in self.coefficients(t))
        snr = alpha**2 / (sigma**2).clamp(min=1e-12)
        reach = {"epsilon": 1 / snr.clamp(min=1e-12), "clean": torch.ones_like(snr)}.get(
            self.prediction, sigma**2
        )
        return snr.clamp(max=gamma) * reach

    def velocity_weights(self, t: Float[Tensor, " b"], floor: float) -> Float[Tensor, " b"]:
        """Weights of the clean latent's squared error that make it the velocity's: 1 / max(t, ``floor``)^2.

        On the flow path the velocity that a clean prediction implies is (x_t - x_0) / t (Li and He 2025, section 3).
        """
        return t.clamp(min=floor).square().reciprocal()

    def _index(self, t: Tensor) -> Tensor:
        return (t * NUM_TIMESTEPS).long().clamp(0, NUM_TIMESTEPS - 1)
