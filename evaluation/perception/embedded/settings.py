"""Settings of the embedded models, as a profile gives them. Light: no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class EmbeddedSettings(BaseModel):
    """What a profile may set of an embedded model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    art: Literal["twemoji", "fluent"] = Field(
        "twemoji", description="art set of the concept bank; fluent comes with `foundry demo-data`"
    )
    known_drawings: bool = Field(
        True,
        description="look for the bank's drawings first, also one behind another: for scenes in which things overlap; it "
        "takes several times as long as outlines and colours alone",
    )
    k: int = Field(2, ge=1, le=5, description="captions per image")
    seed: int = Field(0, ge=0, description="seed of the order in which captions tell things")
    min_similarity: float = Field(
        0.55,  # of the demo's names: true kinds 57 % above, wrong kinds 0.3 %, siblings 1.6 %
        ge=0,
        le=1,
        description="detector: cosine below which two names mean different things",
    )
    min_grounding: float = Field(
        0.1, ge=0, le=1, description="detector: image-text score below which a phrase grounds no region"
    )
    min_mask_iou: float = Field(
        0.7,
        ge=0,
        le=1,
        description="masks: overlap of a region's box with the entity's from which it is its mask",
    )
