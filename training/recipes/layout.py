"""What a layout branch is, and how one is trained. This module is light: it imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from training.recipes.section import Fraction, Section

BRANCH, CONFIG = "branch.safetensors", "branch.json"
"""Files of a branch that lies apart from its base."""
Kind = Literal["siam", "siam_lora", "adapter", "joint", "gated", "none"]


class BranchChoice(Section):
    """How a backbone is told of placed entities.

    ========= ========================================================================================================
    siam      SiamLayout: image tokens attend to layout tokens in a branch of their own weights, whose output is added
              (CreatiLayout, arXiv 2412.03859)
    siam_lora the same with the base's own weights and low-rank additions
    adapter   cross-attention from the base's image queries to layout tokens, beside its attention ("Layout Adapter" there)
    joint     layout tokens in the base's one attention beside text and image (M3-Attention there); no branch to switch off
    gated     self-attention of image and layout tokens under a gate that opens from zero (GLIGEN, arXiv 2301.07093)
    none      no attention to layout tokens: with ``box_aligned``, boxes as input alone
    ========= ========================================================================================================
    """

    kind: Kind = Field("siam", description="how image tokens learn of layout tokens")
    max_boxes: int = Field(
        10, ge=1, le=1000, description="entities that a picture may have; all are padded to it"
    )
    rank: int = Field(256, ge=1, le=4096, description="of siam_lora, which is also its alpha")
    box_aligned: bool = Field(
        False, description="image tokens inside a box also receive their place in it, its size and its phrase"
    )
    attend_inside: bool = Field(
        False, description="image and layout tokens see each other only where the box covers the image token"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Any:
        if self.kind == "none" and not self.box_aligned:
            raise ValueError(
                "'kind' is none, so boxes would not be told at all; say box_aligned: true, or another kind"
            )
        return self


class LayoutOptions(BranchChoice):
    """The same with what the data say: it stands in a model's config.json."""

    phrase_dim: int = Field(2048, ge=1, description="width of what an entity's phrase is given as")
    tokens_per_entity: int = Field(1, ge=1, description="1: a pooled phrase; more: its first token states")


def options_of_folder(model: Path) -> LayoutOptions | None:
    """How the model of a pipeline folder is told of boxes, by its configuration alone; None for one without a branch."""
    for part in ("transformer", "unet"):
        path = Path(model) / part / "config.json"
        try:
            told = json.loads(path.read_text(encoding="utf-8")).get("layout")
        except (OSError, ValueError):
            continue
        return LayoutOptions.model_validate(told) if told else None
    return None


class LayoutTrainingOptions(Section):
    """Options of the layout objective: a branch is trained, its base stays as it is.

    Prediction and noise are the parent's. Of a batch ``text_dropout`` of the pictures lose their caption, ``layout_dropout``
    their layout and ``both_dropout`` both, for guidance that extrapolates from either.
    """

    branch: BranchChoice = BranchChoice()
    text_dropout: Fraction = 0.05
    layout_dropout: Fraction = 0.05
    both_dropout: Fraction = 0.05
    region_weight: float = Field(
        default=2.0, ge=1, le=100, description="weight of the error inside boxes, over that outside"
    )
    time_sampling: Literal["logit_normal", "uniform", "power"] = Field(
        default="power", description="how noise levels are drawn; power: density a t^(a - 1), towards noise"
    )
    logit_mean: float = Field(default=0.0, ge=-10, le=10, description="mean of logit(t), t = 1 is pure noise")
    logit_std: float = Field(default=1.0, gt=0, le=10, description="standard deviation of logit(t)")
    power: float = Field(default=1.4, ge=1, le=10, description="a of the power density; 1 is uniform")
    velocity_floor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="of a parent that predicts the clean latent: weigh its error by 1 / max(t, floor)^2; None: plain",
    )
    compare_every_images: int = Field(
        default=512,
        ge=1,
        description="after so many images the prediction is compared with the same without layout, a pass more",
    )

    @property
    def has_hidden_matrices(self) -> bool:
        """Whether the branch has layers between an input and an output, which Muon is for; box-aligned input has none."""
        return self.branch.kind != "none"

    @model_validator(mode="after")
    def _leaves_something(self) -> Any:
        total = self.text_dropout + self.layout_dropout + self.both_dropout
        if total > 1:
            raise ValueError(
                f"text_dropout, layout_dropout and both_dropout are shares of one batch and sum to {total:g}; keep them below 1"
            )
        return self
