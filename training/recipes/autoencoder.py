"""Options of the autoencoder objective."""

from __future__ import annotations

from pydantic import Field

from training.recipes.section import Section


class AutoencoderOptions(Section):
    """Options of the autoencoder objective (diffusers AutoencoderKL)."""

    block_channels: tuple[int, ...] = Field(default=(16, 16, 32, 64), min_length=1, max_length=6)
    layers_per_block: int = Field(default=1, ge=1, le=4)
    latent_channels: int = Field(default=16, ge=1, le=64)
    kl_weight: float = Field(
        default=1e-6, ge=0, le=1, description="weight of the KL term, per latent element"
    )
    squared_weight: float = Field(
        default=0.0, ge=0, le=100, description="weight of the squared pixel error beside L1"
    )
    edge_weight: float = Field(
        default=0.0, ge=0, le=100, description="weight of the L1 error of image gradients"
    )
