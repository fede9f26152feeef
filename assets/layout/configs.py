"""Run config of layout models."""

import dagster as dg
from pydantic import Field

from assets.models.configs import BackboneConfig, DrawingConfig, ShippedConfig


class FollowingConfig(DrawingConfig):
    """How a layout model is measured."""

    num_layouts: int = Field(
        64, description="held-out layouts that are drawn to measure whether it follows", ge=2
    )
    strength: float = Field(
        1.0, description="what the branch's answer is multiplied with; 0 is the base", ge=0
    )


class LayoutModelConfig(BackboneConfig, FollowingConfig):
    """Settings of ``layout_model``. A changed recipe value is another specification and so another run."""

    curve_parts: int = Field(
        4,
        description="parts of the training after each of which following is measured; 1: at its end alone",
        ge=1,
    )
    curve_layouts: int = Field(16, description="held-out layouts that are drawn after each part", ge=2)


class ShippedLayoutModelConfig(ShippedConfig, FollowingConfig):
    """Settings of ``shipped_layout_model``, which is what ships, and how it is measured."""


class LayoutEvaluationConfig(dg.Config):
    """Settings of ``layout_evaluation``, which holds together what layout models drew."""

    agreement_pictures: int = Field(
        64, description="real pictures about which the judge is asked what is known", ge=1
    )
