"""Run config of models that are trained on."""

from assets.distillation.configs import StepDistilledConfig
from assets.models.configs import DrawingConfig


class FineTunedConfig(StepDistilledConfig, DrawingConfig):
    """Settings of ``fine_tuned_backbone``. A changed recipe value is another specification and so another run."""
