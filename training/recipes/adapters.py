"""The sections of a recipe that say how a pretrained model is fine-tuned, and with which optimiser."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from training.recipes.section import Fraction, Section

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
        description="attention, feed_forward, linear (all), or ends of module names such as to_q",
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
    """Which AdamW: fused in float32, or with both moments in blocks of 8-bit numbers (a quarter of the memory)."""

    name: Literal["adamw", "adamw8bit"] = "adamw"
