"""The section of a recipe that says what a student keeps of its teacher, and which features are matched (KOALA)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from training.recipes.section import Fraction, Section

FeatureKind = Literal["SA", "CA", "FFN", "Res", "LF"]
Pairing = Literal["bottom", "interleave", "up"]
Index = Annotated[int, Field(ge=0, le=1000)]
Count = Annotated[int, Field(ge=0, le=1000)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class StudentOptions(Section):
    """What a student keeps. Nothing said is all kept; the kept parts start from the teacher's weights.

    KOALA-1B (arXiv 2312.04005, Table 1) is ``{down: [0], up: [0, 2], depth: [1, 2, 6]}`` of SDXL, KOALA-700M has depth 5
    and no mid block; BK-style removal keeps the depth.
    """

    down: tuple[Index, ...] | None = Field(
        default=None,
        min_length=1,
        description="UNet: pairs of residual block and transformer kept in each encoder stage",
    )
    up: tuple[Index, ...] | None = Field(
        default=None,
        min_length=2,
        description="UNet: the same in each decoder stage, one more than in an encoder stage",
    )
    depth: tuple[Count, ...] | None = Field(
        default=None,
        description="UNet: transformer layers kept at each level, from the bottom; the last also in the mid block",
    )
    mid: bool = Field(default=True, description="UNet: whether the mid block stays")
    blocks: tuple[Index, ...] | Count | None = Field(
        default=None, description="transformer: blocks kept, by number, or how many from the bottom"
    )
    single_blocks: tuple[Index, ...] | Count | None = Field(
        default=None, description="FLUX: the same of its single-stream blocks"
    )

    @field_validator("down", "up", "blocks", "single_blocks")
    @classmethod
    def _ascending(cls, kept: tuple[int, ...] | int | None) -> tuple[int, ...] | int | None:
        if kept == ():
            raise ValueError("[] keeps nothing of them; name at least one, or leave it out to keep all")
        if isinstance(kept, tuple) and list(kept) != sorted(set(kept)):
            raise ValueError(
                f"{list(kept)} is not ascending without repeats; order decides what stands where"
            )
        return kept


class FeatureOptions(Section):
    """One kind of feature that the student is to share with its teacher."""

    kind: FeatureKind = Field(
        description="outputs of self-attention, cross-attention, feed-forward, residual blocks, or whole stages"
    )
    stages: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="such as DW-2, Mid, UP-1, UP-last; left out: wherever there are any",
    )
    pairing: Pairing = Field(
        default="bottom",
        description="which of the teacher's deeper stack a student's layer is paired with: the same from the bottom, "
        "every second, or the top ones",
    )


class FeatureDistillationOptions(Section):
    """Options of feature distillation (arXiv 2312.04005, section 3): three losses, each with its weight."""

    student: StudentOptions = StudentOptions()
    task_weight: Weight = Field(default=1.0, description="of the error against the data's target")
    output_weight: Weight = Field(default=1.0, description="of the error against the teacher's output")
    feature_weight: Weight = Field(default=1.0, description="of the sum over pairs of features")
    features: tuple[FeatureOptions, ...] | None = Field(
        default=None, description="left out: SA everywhere, and on a UNet LF at its first and last stage"
    )
    feature_memory: Literal["device", "host"] = Field(
        default="device", description="where the teacher's features wait for the student's"
    )
    caption_dropout: Fraction = Field(default=0.1, description="share of captions replaced by the empty text")
    time_sampling: Literal["uniform", "logit_normal"] = "uniform"

    @model_validator(mode="after")
    def _some_loss(self) -> FeatureDistillationOptions:
        if self.task_weight == self.output_weight == self.feature_weight == 0:
            raise ValueError(
                "'task_weight', 'output_weight' and 'feature_weight' are all 0; give one a weight"
            )
        if self.output_weight == self.task_weight == 0 and self.features == ():
            raise ValueError("'features' is empty and the other losses have no weight; nothing would train")
        return self
