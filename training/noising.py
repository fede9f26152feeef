"""How latents are noised and what the network predicts, for training, sampling and measuring alike.

The noise level ``t`` runs from 0 (clean) to 1 (pure noise); ``x_t = alpha(t) x_0 + sigma(t) eps``.
``flow``: alpha = 1 - t, sigma = t, target eps - x_0 (rectified flow). ``clean``: the same path, target x_0 itself:
a small network need not carry the noise through, which costs it most of its width (Li and He 2025). ``epsilon`` and ``v``: DDPM with 1000
scaled-linear betas from 0.00085 to 0.012 (latent diffusion), at index floor(1000 t).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

NUM_TIMESTEPS = 1000


@lru_cache(maxsize=1)
def alphas_cumprod() -> Float[Tensor, " 1000"]:
    """Product of 1 - beta up to each DDPM index, float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NUM_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


@dataclass(frozen=True)
class Noising:
    """One noise process: ``prediction`` is flow, clean, epsilon or v."""

    prediction: str

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
            kept = alphas_cumprod().to(t.device)[self._index(t)]
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

    def _index(self, t: Tensor) -> Tensor:
        return (t * NUM_TIMESTEPS).long().clamp(0, NUM_TIMESTEPS - 1)
