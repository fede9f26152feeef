"""Jobs: the pieces of the graph that a person, a schedule or a sensor launches as one run."""

from __future__ import annotations

import dagster as dg

from assets.graph.steps import STEPS


def _names(partitioned_by: str) -> list[str]:
    return [step.name for step in STEPS.values() if step.partitioned_by == partitioned_by]


SCENES = dg.define_asset_job(
    "compose_scenes", ["demo_scenes"], description="Compose the demo's scenes and land them."
)
DATA = dg.define_asset_job(
    "refresh_group",
    _names("groups"),
    description="One shard group, from landed shards to captions, entities and latents.",
)
AUTOENCODER = dg.define_asset_job(
    "publish_autoencoder", ["autoencoder"], description="Publish or train the autoencoder."
)
DATASET = dg.define_asset_job(
    "assemble_dataset",
    ["caption_statistics", "layout_benchmark", "training_shards"],
    description="Put all shard groups together: statistics, benchmark, and the one dataset that models depend on.",
)
JUDGE = dg.define_asset_job("train_judge", ["judge_clip"], description="Train the judge of alignment.")
MODEL = dg.define_asset_job(
    "train_model", _names("recipes"), description="Train one backbone and let it draw the held-out prompts."
)
TEACHER = dg.define_asset_job(
    "publish_teacher",
    _names("teachers"),
    description="Publish one of the trained backbones that ship with the project.",
)
STUDENT = dg.define_asset_job(
    "distil_steps",
    _names("step_distilled"),
    description="Distil one few-step student from its teacher and hold the two side by side.",
)
DISTILLED = dg.define_asset_job(
    "distil_features",
    _names("distilled"),
    description="Cut one smaller student out of its teacher, teach it by features, and hold the two side by side.",
)
UNIT_SCORES = dg.define_asset_job(
    "score_units",
    _names("unit_scores"),
    description="Score the heads and neurons of one model: learn masks end to end, or run a baseline.",
)
PRUNED = dg.define_asset_job(
    "prune_model",
    _names("pruned"),
    description="Remove the units of one model that score lowest, and hold the two side by side.",
)
FINE_TUNED = dg.define_asset_job(
    "fine_tune",
    _names("fine_tuned"),
    description="Train one model on from its parent's weights, all or adapters, and hold the two side by side.",
)
GRID_POINT = dg.define_asset_job(
    "train_grid_point",
    _names("grid"),
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

ALL_JOBS = [
    SCENES,
    DATA,
    AUTOENCODER,
    DATASET,
    JUDGE,
    MODEL,
    TEACHER,
    STUDENT,
    DISTILLED,
    UNIT_SCORES,
    PRUNED,
    FINE_TUNED,
    GRID_POINT,
    GRID,
    CONCLUSIONS,
]
