"""Options of the autoencoder objective."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from training.recipes.section import Fraction, Section


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
    encoder: Literal["learned", "principal_components"] = Field(
        default="learned",
        description="principal_components: patches of the pictures on their first components; the decoder alone learns",
    )
    smallest_spread: Fraction = Field(
        default=0.12,
        description="principal_components: components are scaled to unit spread, fainter ones than this share of the "
        "first as if they had as much",
    )
    latent_noise: float = Field(
        default=0.03, gt=0, le=10, description="principal_components: noise that the decoder learns to take"
    )

    @model_validator(mode="after")
    def _own_options(self) -> AutoencoderOptions:
        of_components = self.model_fields_set & _OF_COMPONENTS
        if self.encoder == "learned" and of_components:
            raise ValueError(
                f"'{min(of_components)}' is an option of encoder 'principal_components', found 'learned'; remove it"
            )
        return self

    @model_serializer(mode="wrap")
    def _own_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the options of an encoder that is not meant: they are in no older run's hash."""
        settings: dict[str, Any] = handler(self)
        absent = _OF_COMPONENTS | {"encoder"} if self.encoder == "learned" else frozenset()
        return {key: value for key, value in settings.items() if key not in absent}


_OF_COMPONENTS = frozenset({"smallest_spread", "latent_noise"})
