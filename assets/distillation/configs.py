"""Run config of shipped teachers, students and the study of distillation."""

import dagster as dg
from pydantic import Field

from assets.models.configs import BackboneConfig, DrawingConfig, ScoreGateConfig, ShippedConfig


class TeacherConfig(ShippedConfig):
    """Settings of ``teacher_backbone``, which is what ships."""


class StepDistilledConfig(BackboneConfig):
    """Settings of ``step_distilled_backbone``. A changed value is another specification and so another run."""

    prompts_per_split: int = Field(
        48, description="held-out prompts of each held-out split that student and teacher draw", ge=2
    )


class DistilledConfig(StepDistilledConfig, DrawingConfig, ScoreGateConfig):
    """Settings of ``distilled_backbone``. A changed recipe value is another specification and so another run."""


class DistillationStudyConfig(dg.Config):
    """Settings of ``distillation_study``."""

    level: float = Field(0.95, description="how often an interval should cover the truth", gt=0.5, lt=1)
