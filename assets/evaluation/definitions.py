"""Assets of the group ``evaluation``: every model of every kind, measured by every metric."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets.derivation.inputs import model_inputs
from assets.graph.definitions import build_asset, materialized, picture, with_defaults
from assets.graph.interfaces import Compute, Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.pages.markdown import markdown_table
from assets.pages.sheets import figure_jpeg
from evaluation.tables.scores import MODEL_SCORES


class ModelScoresConfig(dg.Config):
    """Settings of ``model_scores``. Pictures of ``generated_samples`` drawn the same way are not drawn again."""

    prompts_per_split: int = Field(
        24, description="held-out prompts of each held-out split that every model draws", ge=2
    )
    samples_per_split: int = Field(
        128, description="held-out samples of each held-out split that are denoised", ge=2
    )
    num_steps: int = Field(16, description="evaluations of the scheduler; few-step models take 4", ge=1)
    guidance: float = Field(
        3.0, description="classifier-free guidance scale, 1 is none; few-step models take none", ge=1
    )
    seed: int = Field(0, description="seed of the starting noise, the same for all models", ge=0)
    distractors: int = Field(8, description="the judge picks the prompt out of so many", ge=2)


CONFIGS: Mapping[str, type[dg.Config]] = {"model_scores": ModelScoresConfig}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """The metrics' versions, so that a new metric makes the table stale, and who looks at what models draw."""
    from evaluation.metrics.registry import METRICS

    versions = {f"metric {metric.name}": str(metric.version) for metric in METRICS.values()}
    return versions | model_inputs(surroundings.perception, "closed_set")


def model_scores(
    context: dg.AssetExecutionContext,
    config: ModelScoresConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """One long table of scores: every published model of every kind by every metric, with intervals over prompts.

    Measured once: what a model scored by the same protocol is kept, so that a new metric measures itself alone and a new
    model only that one. Pictures that are stored are not drawn again. A model whose checks failed is left out by name.
    """
    from assets.derivation.reuse import previous_rows
    from assets.evaluation.held_out import ScoringSettings
    from assets.evaluation.leaderboard import leaderboard, leaderboard_picture
    from assets.evaluation.model_scores import score_models
    from assets.evaluation.published_models import Published
    from assets.models.drawing import drawing_place, drawing_resources
    from evaluation.metrics.registry import METRICS

    step, metrics, log = STEPS["model_scores"], list(METRICS.values()), context.log.info
    inputs = other_inputs(step.name, config, surroundings)
    provenance = provenance_of(store, step, None, config.model_dump(), inputs)
    place = drawing_place(store, compute, drawing_resources(models.resources), log)
    settings = ScoringSettings(**config.model_dump())
    published = Published(store, models, place, settings, provenance, surroundings.perception)
    previous = previous_rows(store, step.name, None, log)
    table = score_models(published.scored(), metrics, previous, log)
    manifest = store.write_table(step.name, table, provenance)
    metadata: dict[str, Any] = {
        "leaderboard": dg.MetadataValue.md(markdown_table(leaderboard(table, metrics)))
    }
    if published.left_out:
        metadata["left_out"] = dg.MetadataValue.json(published.left_out)
    figure = leaderboard_picture(table, metrics)
    if figure is not None:
        metadata["picture"] = picture(figure_jpeg(figure), "models of all kinds by the judge's cosine")
    return materialized(store, manifest, metadata, schema=MODEL_SCORES)


def build_definitions(
    partitions: dg.PartitionsDefinition | None, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults; none is partitioned."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    return [build_asset(model_scores, configs["model_scores"])]
