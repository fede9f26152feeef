"""Jobs: the pieces of the graph that a person, a schedule or a sensor launches as one run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from assets.graph.model_kinds import ModelKind
from assets.graph.steps import STEPS


def steps_of(partitioned_by: str) -> list[str]:
    """Names of the steps that share these partitions, upstream first."""
    return [step.name for step in STEPS.values() if step.partitioned_by == partitioned_by]


SCENES = dg.define_asset_job(
    "compose_scenes", ["demo_scenes"], description="Compose the demo's scenes and land them."
)
DATA = dg.define_asset_job(
    "refresh_group",
    steps_of("groups"),
    description="One shard group, from landed shards to captions, entities and latents.",
)
AUTOENCODER = dg.define_asset_job(
    "publish_autoencoder", ["autoencoder"], description="Publish or train the autoencoder."
)
DATASET = dg.define_asset_job(
    "assemble_dataset",
    ["caption_statistics", "layout_benchmark", "training_shards", "layout_shards"],
    description="Put all shard groups together: statistics, benchmark, the one dataset that models depend on, its layouts.",
)
JUDGE = dg.define_asset_job("train_judge", ["judge_clip"], description="Train the judge of alignment.")
GRID_POINT = dg.define_asset_job(
    "train_grid_point",
    steps_of("grid"),
    description="Train one point of the scaling grid and score it at every count; launch all as one backfill.",
)
GRID = dg.define_asset_job(
    "summarise_grid",
    ["scaling_grid"],
    description="Write the scaling grid's page from what is scored so far.",
)
CONCLUDING = (
    "distillation_study",
    "pruning_comparison",
    "layout_evaluation",
    "localized_lora_comparison",
    "annotation_pages",
    "scaling_grid",
    "evaluation_table",
    "model_scores",
    "data_quality",
    "scaling_observations",
    "scaling_laws",
    "report",
)
"""What is made of data and models once they are there."""
CONCLUSIONS = dg.define_asset_job(
    "draw_conclusions",
    list(CONCLUDING),
    description="Score data and models, fit the laws, write the report.",
)


def model_job(kind: ModelKind) -> Any:
    """Makes one model of a kind, with what comes with it a partition a model."""
    return dg.define_asset_job(kind.job, steps_of(kind.asset), description=kind.job_about)


def all_jobs(kinds: Iterable[ModelKind]) -> list[Any]:
    """Every job of the graph."""
    made = [model_job(kind) for kind in kinds]
    return [SCENES, DATA, AUTOENCODER, DATASET, JUDGE, *made, GRID_POINT, GRID, CONCLUSIONS]
