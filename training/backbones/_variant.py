"""A backbone as data. This module is light: it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

Family = Literal["SD2", "SDXL", "IF-XL", "PixArt", "SD3", "FLUX"]
Conditioning = Literal["paper", "stock"]
CONDITIONINGS: tuple[Conditioning, ...] = ("paper", "stock")

LATENT_CHANNELS = 16
LATENT_SIZE = 16  # latent height and width at 64 px, of the autoencoder that ships
TINY_LATENT_SIZE = 8  # of the smallest of their kind, for tests
GPU_LATENT_SIZE = 32  # latent height and width at 256 px
TEXT_DIM = 384  # MiniLM token states
HEAD_WIDTH = 64

STOCK_SDXL: Mapping[str, Any] = MappingProxyType(
    {
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
)
"""Released SDXL: two text encoders side by side, pooled text and six size numbers added to the time embedding."""


@dataclass(frozen=True)
class Variant:
    """A backbone as data: the name of a diffusers class and the configuration that builds it.

    ``conditioning`` says what the layout is conditioned on where a paper left something out: ``paper`` rows of
    the SDXL family take the released model's conditioning with :meth:`conditioned`; None has one kind only.
    """

    family: Family
    class_name: str
    config: Mapping[str, Any]
    conditioning: Conditioning | None = None

    def conditioned(self, conditioning: Conditioning) -> Variant:
        """This layout with the given conditioning; others than the SDXL family's paper rows stay as they are."""
        if self.conditioning is None or conditioning == self.conditioning:
            return self
        return replace(self, config={**self.config, **STOCK_SDXL}, conditioning=conditioning)
