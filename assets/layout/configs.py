"""Run config of layout models."""

from pydantic import Field

from assets.models.configs import BackboneConfig, DrawingConfig


class LayoutModelConfig(BackboneConfig, DrawingConfig):
    """Settings of ``layout_model``. A changed recipe value is another specification and so another run."""

    num_layouts: int = Field(
        64, description="held-out layouts that are drawn to measure whether it follows", ge=2
    )
    strength: float = Field(
        1.0, description="what the branch's answer is multiplied with; 0 is the base", ge=0
    )
