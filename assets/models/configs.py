"""Run config of the group ``models``, and what of it goes into provenance."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets.graph.interfaces import Models, Surroundings
from assets.models.parents import recipes_of
from assets.models.training_runs import resolve_recipe
from training.packaged_models import teacher_digests
from training.recipes.specification import Recipe


class JudgeConfig(dg.Config):
    """Settings of ``judge_clip``."""

    images_total: int | None = Field(None, description="images seen; empty for the recipe's own figure", ge=1)


class BackboneConfig(dg.Config):
    """Settings of ``backbone``. A changed value is another specification and so another run."""

    images_total: int | None = Field(None, description="images seen; empty for the recipe's own figure", ge=1)
    learning_rate: float | None = Field(
        None, description="peak learning rate; empty for the recipe's own", gt=0
    )
    seed: int | None = Field(
        None, description="seed of weights, order and noise; empty for the recipe's own", ge=0
    )


class StepDistilledConfig(BackboneConfig):
    """Settings of ``step_distilled_backbone``. A changed value is another specification and so another run."""

    prompts_per_split: int = Field(
        48, description="held-out prompts of each held-out split that student and teacher draw", ge=2
    )


class DrawingConfig(dg.Config):
    """How a smaller model and the one it was made from are drawn; few-step ones take 4 steps without guidance."""

    num_steps: int = Field(16, description="evaluations of the scheduler when the two are compared", ge=1)
    guidance: float = Field(
        3.0, description="classifier-free guidance scale of the comparison, 1 is none", ge=1
    )


class ScoreGateConfig(dg.Config):
    """Whether the score beside the parent's stands between a model and its readers."""

    gate_score: bool = Field(
        True,
        description="keep a model that lost more than 10% of its parent's score back from what reads it; false: only say so",
    )


class DistilledConfig(StepDistilledConfig, DrawingConfig, ScoreGateConfig):
    """Settings of ``distilled_backbone``. A changed recipe value is another specification and so another run."""


class FineTunedConfig(StepDistilledConfig, DrawingConfig):
    """Settings of ``fine_tuned_backbone``. A changed recipe value is another specification and so another run."""


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


class DistillationStudyConfig(dg.Config):
    """Settings of ``distillation_study``."""

    level: float = Field(0.95, description="how often an interval should cover the truth", gt=0.5, lt=1)


class TeacherConfig(dg.Config):
    """Settings of ``teacher_backbone``, which is what ships."""

    tolerance: float = Field(
        1e-4,
        description="largest difference between its answer to a fixed input here and where it was packed",
        gt=0,
    )


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


STUDENTS = ("step_distilled_backbone", "distilled_backbone", "fine_tuned_backbone")
"""Assets whose models are trained from another model."""
_SCORED_ON, _PRUNED_ON = {"splits": ["train"]}, {"splits": list[str]()}
"""What scores of units and pruned models learn from, in the form of a recipe: by it takedowns are traced."""
CONFIGS: Mapping[str, type[dg.Config]] = {
    "judge_clip": JudgeConfig,
    "backbone": BackboneConfig,
    "teacher_backbone": TeacherConfig,
    "generated_samples": GeneratedSamplesConfig,
    "step_distilled_backbone": StepDistilledConfig,
    "distilled_backbone": DistilledConfig,
    "distillation_study": DistillationStudyConfig,
    "unit_scores": UnitScoresConfig,
    "pruned_backbone": PrunedConfig,
    "fine_tuned_backbone": FineTunedConfig,
    "pruning_comparison": PruningComparisonConfig,
    "backbone_analysis": BackboneAnalysisConfig,
}


def resolved_config(name: str, partition: str | None, config: dg.Config, models: Models) -> dict[str, Any]:
    """What goes into the provenance: for a model, the recipe as it will really be trained."""
    if name in STUDENTS and partition is not None:
        assert isinstance(config, BackboneConfig)
        return student_config(recipes_of(models, name)[partition], config)
    if name == "unit_scores" and partition is not None:
        return {**config.model_dump(), **models.unit_scores[partition].settings(), "dataset": _SCORED_ON}
    if name == "pruned_backbone" and partition is not None:
        return {**config.model_dump(), **models.pruned[partition].settings(), "dataset": _PRUNED_ON}
    if name == "teacher_backbone" and partition is not None:
        return {**config.model_dump(), "shipped": teacher_digests().get(partition)}
    if name == "backbone" and partition is not None:
        return resolve_recipe(models.backbones[partition], config.model_dump()).settings()
    if name == "judge_clip":
        return resolve_recipe(models.judge, config.model_dump()).settings()
    return config.model_dump()


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    from training.recipes.text_encoder import encoder_digest

    if name not in ("backbone", *STUDENTS):
        return {}
    return {"text_encoder": encoder_digest(surroundings.models.text_encoder)}


def recipe_overrides(config: BackboneConfig) -> dict[str, Any]:
    """The settings that replace a recipe's own figures."""
    return {name: getattr(config, name) for name in BackboneConfig.model_fields}


def student_config(recipe: Recipe, config: BackboneConfig) -> dict[str, Any]:
    """The recipe as it will be trained, and how it is compared with its teacher."""
    overrides = recipe_overrides(config)
    values = config.model_dump(exclude=set(overrides))
    return {**resolve_recipe(recipe, overrides).settings(), **values}
