"""Run config that kinds of models share, and what of it goes into provenance."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets.graph.interfaces import Models
from assets.models.training_runs import resolve_recipe
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


class ShippedConfig(dg.Config):
    """Settings of an asset that publishes what ships with the project."""

    tolerance: float = Field(
        1e-4,
        description="largest difference between its answer to a fixed input here and where it was packed",
        gt=0,
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


def resolved_config(name: str, partition: str | None, config: dg.Config, models: Models) -> dict[str, Any]:
    """What goes into the provenance: for a model, the recipe as it will really be trained, or what else it is made by."""
    kind = models.recipes.find(name)
    if kind is not None and partition is not None:
        recipe = models.of(name)[partition]
        if kind.trained:
            assert isinstance(config, BackboneConfig)
            return trained_settings(recipe, config)
        return {**config.model_dump(), **recipe.settings(), **kind.learned_from}
    if name == "judge_clip":
        return resolve_recipe(models.judge, config.model_dump()).settings()
    return config.model_dump()


def other_inputs(name: str, models: Models) -> Mapping[str, str]:
    """Digests of what these assets read from outside the graph."""
    from training.recipes.text_encoder import encoder_digest

    kind = models.recipes.find(name)
    if kind is None or not kind.trained:
        return {}
    return {"text_encoder": encoder_digest(models.text_encoder)}


def recipe_overrides(config: BackboneConfig) -> dict[str, Any]:
    """The settings that replace a recipe's own figures."""
    return {name: getattr(config, name) for name in BackboneConfig.model_fields}


def trained_settings(recipe: Recipe, config: BackboneConfig) -> dict[str, Any]:
    """The recipe as it will be trained, and how the model is drawn and compared afterwards."""
    overrides = recipe_overrides(config)
    values = config.model_dump(exclude=set(overrides))
    return {**resolve_recipe(recipe, overrides).settings(), **values}
