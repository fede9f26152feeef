"""From what an autoencoder says to what a backbone sees, and back: (z - shift) times scale."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor


def scaled(config: Any, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Latents of unit size about zero; ``config`` is an AutoencoderKL's. SD3 and FLUX shift, the others scale alone."""
    return (latents - _shift(config)) * config.scaling_factor


def unscaled(config: Any, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The inverse of :func:`scaled`, as the stock pipelines compute it."""
    return latents / config.scaling_factor + _shift(config)


def _shift(config: Any) -> float:
    return getattr(config, "shift_factor", None) or 0.0
