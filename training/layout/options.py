"""What a layout branch is, as plain data: it stands in a model's config.json. This module is light: it imports no
torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["siam", "siam_lora", "adapter", "joint", "gated", "none"]


class LayoutOptions(BaseModel):
    """How a backbone is told of placed entities.

    ======== =========================================================================================================
    siam     SiamLayout: image tokens attend to layout tokens in a branch of their own weights, whose output is added
             (CreatiLayout, arXiv 2412.03859)
    siam_lora the same with the base's own weights and low-rank additions
    adapter  cross-attention from the base's image queries to layout tokens, beside its attention ("Layout Adapter" there)
    joint    layout tokens in the base's one attention beside text and image (M3-Attention there); no branch to switch off
    gated    self-attention of image and layout tokens under a gate that opens from zero (GLIGEN, arXiv 2301.07093)
    none     no attention to layout tokens: with ``box_aligned``, boxes as input alone
    ======== =========================================================================================================
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field("siam", description="how image tokens learn of layout tokens")
    max_boxes: int = Field(10, ge=1, description="entities that a picture may have; all are padded to it")
    phrase_dim: int = Field(2048, ge=1, description="width of what an entity's phrase is given as")
    tokens_per_entity: int = Field(1, ge=1, description="1: a pooled phrase; more: its first token states")
    rank: int = Field(256, ge=1, description="of siam_lora, which is also its alpha")
    box_aligned: bool = Field(
        False, description="image tokens inside a box also receive their place in it, its size and its phrase"
    )
    attend_inside: bool = Field(
        False, description="image and layout tokens see each other only where the box covers the image token"
    )
