"""Run config of what is drawn with a backbone and told about it."""

import dagster as dg
from pydantic import Field


class GeneratedSamplesConfig(dg.Config):
    """Settings of ``generated_samples``."""

    prompts_per_split: int = Field(24, description="held-out prompts drawn from each held-out split", ge=1)
    num_steps: int = Field(16, description="evaluations of the scheduler", ge=1)
    guidance: float = Field(3.0, description="classifier-free guidance scale, 1 is none", ge=1)
    seed: int = Field(0, description="seed of the starting noise, the same for all models", ge=0)


class BackboneAnalysisConfig(dg.Config):
    """Settings of ``backbone_analysis``."""

    timed_runs: int = Field(
        5, description="forward passes that are timed; medians are told; 0 for none", ge=0
    )
    samples: int = Field(16, description="training samples on which blocks are compared", ge=2)
