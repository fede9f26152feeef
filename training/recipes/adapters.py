"""The sections of a recipe that say how a pretrained model is fine-tuned, and with which optimiser."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from training.recipes.section import Fraction, Section

OptimizerName = Literal["adamw", "adamw8bit", "muon"]

Target = Annotated[str, Field(min_length=1, max_length=200)]


class LoraOptions(Section):
    """Low-rank adapters beside frozen weights (Hu et al. 2021): W + alpha / rank * B A, of which A and B train."""

    rank: int = Field(default=16, ge=1, le=4096, description="inner width of A and B")
    alpha: float | None = Field(
        default=None, gt=0, le=1e6, description="the adapter counts alpha / rank; None: alpha = rank"
    )
    targets: tuple[Target, ...] = Field(
        default=("attention",),
        min_length=1,
        description="attention, feed_forward, linear (all), ends of module names such as to_q, or modules; in "
        "localized_loras.yaml also located, the layers that write",
    )
    dropout: Fraction = Field(default=0.0, description="share of an adapter's input dropped while training")
    init: Literal["kaiming", "gaussian"] = Field(
        default="kaiming",
        description="how A is drawn; B starts at zero, so that training starts at the parent",
    )

    @field_validator("dropout")
    @classmethod
    def _some_left(cls, dropout: float) -> float:
        if dropout >= 1:
            raise ValueError("a dropout of 1 leaves nothing to train on; give less, such as 0.1")
        return dropout


class OptimizerOptions(Section):
    """AdamW, fused in float32 or with both moments in blocks of 8-bit numbers (a quarter of the memory); or Muon.

    Muon takes the hidden matrices of a backbone's blocks, AdamW all other parameters beside it.
    """

    name: OptimizerName = "adamw"
    matrix_rate: float = Field(
        default=2.0, gt=0, le=1000, description="muon: learning rate of the matrices over that of the rest"
    )
    momentum: Fraction = Field(default=0.95, description="muon: share of the momentum that a step keeps")
    convolutions: bool = Field(
        default=True, description="muon: kernels of convolutions are matrices too; false: AdamW takes them"
    )

    @model_validator(mode="after")
    def _own_options(self) -> OptimizerOptions:
        of_muon = self.model_fields_set & MUON_ALONE
        if self.name != "muon" and of_muon:
            raise ValueError(
                f"'{min(of_muon)}' is an option of optimizer 'muon', found '{self.name}'; remove it"
            )
        return self

    @model_serializer(mode="wrap")
    def _own_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the options of an optimiser that is not meant: they are in no older run's hash."""
        settings: dict[str, Any] = handler(self)
        return {key: value for key, value in settings.items() if self.name == "muon" or key not in MUON_ALONE}


MUON_ALONE = frozenset({"matrix_rate", "momentum", "convolutions"})
