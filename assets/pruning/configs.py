"""Run config of scores of units, pruned models and their comparison."""

import dagster as dg
from pydantic import Field

from assets.models.configs import DrawingConfig, ScoreGateConfig


class UnitScoresConfig(DrawingConfig):
    """Settings of ``unit_scores``: how the pictures of its page are drawn. Scores follow from the recipe."""


class PrunedConfig(DrawingConfig, ScoreGateConfig):
    """Settings of ``pruned_backbone``."""

    prompts_per_split: int = Field(
        48, description="held-out prompts of each held-out split that both models draw", ge=2
    )


class PruningComparisonConfig(dg.Config):
    """Settings of ``pruning_comparison``."""

    margin: float = Field(
        0.10,
        description="share of the whole model's score whose loss the picture draws as allowed",
        gt=0,
        lt=1,
    )
