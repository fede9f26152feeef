"""Assets of the group ``scaling``: the runs of the scaling grid, their scores, and what follows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from assets.graph.definitions import build_asset, check_spec, gate_check, materialized, picture, with_defaults
from assets.graph.interfaces import Compute, Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.models.training_runs import publish, run_metadata
from assets.pages.sheets import figure_jpeg
from assets.scaling.points import planned
from evaluation.tables.scaling import SCALING_OBSERVATIONS, SCALING_SCORES


class ScalingRunConfig(dg.Config):
    """Settings of ``scaling_run``. A changed value is another specification and so another run."""

    learning_rate: float | None = Field(
        None, description="peak learning rate; empty for the grid's own", gt=0
    )


class ScalingScoresConfig(dg.Config):
    """Settings of ``scaling_scores``."""

    samples_per_split: int = Field(
        128, description="held-out samples of each held-out split that are denoised", ge=1
    )
    prompts_per_split: int = Field(
        16, description="held-out prompts of each held-out split that are drawn at the end", ge=1
    )
    num_steps: int = Field(12, description="evaluations of the scheduler", ge=1)
    guidance: float = Field(3.0, description="classifier-free guidance scale, 1 is none", ge=1)
    seed: int = Field(0, description="seed of the starting noise, the same for all points", ge=0)
    distractors: int = Field(8, description="the judge picks the prompt out of so many", ge=2)


class ScalingGridConfig(dg.Config):
    """Settings of ``scaling_grid``."""

    points_shown: int = Field(200, description="points in the table on the asset page", ge=1)


class ScalingObservationsConfig(dg.Config):
    """Settings of ``scaling_observations``."""

    grid: bool = Field(True, description="scores of the grid too, not only those of the recipes' models")


CONFIGS: Mapping[str, type[dg.Config]] = {
    "scaling_run": ScalingRunConfig,
    "scaling_scores": ScalingScoresConfig,
    "scaling_grid": ScalingGridConfig,
    "scaling_observations": ScalingObservationsConfig,
}


def resolved_config(name: str, partition: str | None, config: dg.Config, models: Models) -> dict[str, Any]:
    """What goes into the provenance: for a run, the recipe as it will really be trained and the scored counts."""
    if name == "scaling_run" and partition is not None:
        return planned(models, partition, config.model_dump()).settings
    return config.model_dump()


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    from training.recipes.text_encoder import encoder_digest

    if name != "scaling_run":
        return {}
    return {"text_encoder": encoder_digest(surroundings.models.text_encoder)}


def scaling_run(
    context: dg.AssetExecutionContext,
    config: ScalingRunConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """One training per point of the scaling grid, with its weights kept at every count of images it is scored at.

    A partition is one point: backbone, data, caption mix and seed. Launch all as one backfill: runs live under their
    spec hash, so that what was interrupted goes on from its last checkpoint and what is done is not trained again.
    """
    from assets.models.backbones import backbone_card, gate_of_model
    from assets.scaling.points import check_grid
    from assets.scaling.runs import train_point
    from training.recipes.text_encoder import encoder_digest

    key, step = context.partition_key, STEPS["scaling_run"]
    check_grid(models)
    plan = planned(models, key, config.model_dump())
    other = {"text_encoder": encoder_digest(models.text_encoder)}
    provenance = provenance_of(store, step, key, plan.settings, other)
    paths = {
        "dataset": store.local_folder("training_shards", require_gate=True),
        "autoencoder": store.local_folder("autoencoder"),
    }
    inputs = {
        "dataset": provenance.inputs["training_shards"],
        "autoencoder": provenance.inputs["autoencoder"],
    }
    run = train_point(plan, {**inputs, **other}, paths, models, compute, context.log.info)
    gate = gate_of_model(run)
    manifest = publish(store, step.name, key, run, provenance, gate, backbone_card(run, models.profile))
    store.publish_folder("scaling_snapshots", run.folder.snapshots, provenance, key, gate)
    metadata = {**run_metadata(run), "scored_counts": str(list(plan.counts))}
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


def scaling_scores(
    context: dg.AssetExecutionContext,
    config: ScalingScoresConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Each run's held-out denoising error at six or more log-spaced counts of images, and the judge's word at the end.

    All points meet the same held-out samples, the same noise and the same prompts.
    """
    from assets.scaling.measuring import measure_point

    key, step = context.partition_key, STEPS["scaling_scores"]
    provenance = provenance_of(store, step, key, config.model_dump())
    table = measure_point(
        store, compute, models, key, config.model_dump(), step.function_version, context.log.info
    )
    manifest = store.write_table(step.name, table, provenance, key)
    last = table.slice(table.num_rows - 3).to_pylist()
    metadata = {row["metric"]: row["value"] for row in last}
    return materialized(store, manifest, metadata, schema=SCALING_SCORES)


def scaling_grid(
    context: dg.AssetExecutionContext,
    config: ScalingGridConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """The grid's progress page: every point's state, learning curves, images to reach a score, and its claims.

    Waiting, running and failed points stand in the table as well, so it says how far a backfill is. Without a grid in
    the profile the page is empty.
    """
    import tempfile

    from assets.pages.markdown import markdown_table
    from assets.scaling.summary import (
        efficiency_view,
        grid_measurements,
        points_table,
        summarise,
        write_grid_page,
    )

    step = STEPS["scaling_grid"]
    provenance = provenance_of(store, step, None, config.model_dump())
    summary = summarise(store, models)
    store.write_table("scaling_efficiency", summary.efficiency, provenance)
    with tempfile.TemporaryDirectory(prefix="foundry-grid-") as scratch:
        page = write_grid_page(Path(scratch), summary, grid_measurements(store, models))
        manifest = store.publish_folder(step.name, page.parent, provenance)
    metadata: dict[str, Any] = {
        **{f"points_{state}": count for state, count in summary.totals.items()},
        "points": dg.MetadataValue.md(markdown_table(points_table(summary.rows[: config.points_shown]))),
        "efficiency": dg.MetadataValue.md(markdown_table(efficiency_view(summary.efficiency))),
        "page": dg.MetadataValue.path(str(store.local_folder(step.name) / page.name)),
    }
    if summary.figure is not None:
        metadata["curves"] = picture(figure_jpeg(summary.figure), "held-out denoising error over images seen")
    return materialized(store, manifest, metadata)


def scaling_observations(
    context: dg.AssetExecutionContext,
    config: ScalingObservationsConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Every score with what it cost: parameters, MACs, images, compute, image-noun pairs, wall seconds, hardware.

    Rows of the recipes' models and of every scored count of the grid; laws are fitted on the former.
    """
    from assets.scaling.measuring import observations

    step = STEPS["scaling_observations"]
    provenance = provenance_of(store, step, None, config.model_dump())
    table = observations(store, models, with_grid=config.grid)
    manifest = store.write_table(step.name, table, provenance)
    return materialized(store, manifest, schema=SCALING_OBSERVATIONS)


def build_definitions(
    points: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets; ``points`` holds the names of the grid's points."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    reloads = check_spec(
        "scaling_run",
        "finite_and_reloads",
        "The loss stayed finite, and the published folder reloads to the same output as the model that was trained.",
        blocking=True,
    )
    after_each = dg.AutomationCondition.any_deps_updated().since_last_handled()
    return [
        build_asset(scaling_run, configs["scaling_run"], partitions=points, checks=[reloads], pool=pool),
        build_asset(scaling_scores, configs["scaling_scores"], partitions=points),
        build_asset(
            scaling_grid,
            configs["scaling_grid"],
            automation=after_each & ~dg.AutomationCondition.in_progress(),
        ),
        build_asset(scaling_observations, configs["scaling_observations"]),
    ]
