"""The tables of the grid: scores of one run with all that is known of it, and observations that laws are fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from assets.scaling.points import Planned, macs_of, parameters_of
from evaluation.tables.scaling import SCALING_OBSERVATIONS, SCALING_SCORES


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run beside its recipe."""

    data_images: int
    image_noun_pairs: int
    hardware: str
    profile: str
    model_digest: str
    seconds_at: dict[int, float]


def scores_table(plan: Planned, scores: pa.Table, facts: RunFacts, function_version: int) -> pa.Table:
    """Rows of SCALING_SCORES out of rows of :data:`assets.scaling.scoring.SCORES`."""
    point, recipe = plan.point, plan.recipe
    assert recipe.backbone is not None
    macs = macs_of(recipe.backbone)
    fixed = {
        "recipe": recipe.name,
        "size": point.size,
        "data": point.data,
        "mix": point.mix,
        "seed": recipe.seed,
        "family": family_of(recipe.backbone),
        "backbone": recipe.backbone,
        "parameters": parameters_of(recipe.backbone),
        "macs": macs,
        "filter": recipe.dataset.filter,
        "concepts": recipe.dataset.max_concepts,
        "data_images": facts.data_images,
        "image_noun_pairs": facts.image_noun_pairs,
        "hardware": facts.hardware,
        "profile": facts.profile,
        "model_digest": facts.model_digest,
        "function_version": function_version,
    }
    rows = [
        {
            **fixed,
            **row,
            **_summary(np.array(row["by_sample"], float)),
            "training_gflops": 6e-9 * macs * row["images_seen"],
            "wall_seconds": facts.seconds_at[row["images_seen"]],
        }
        for row in scores.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=SCALING_SCORES)


def observations_of(scores: pa.Table) -> pa.Table:
    """Rows of SCALING_OBSERVATIONS: every score of the grid as one observation."""

    return scores.select(SCALING_OBSERVATIONS.names).cast(SCALING_OBSERVATIONS)


def family_of(backbone: str) -> str:
    """Models that share a law: ``unet`` or ``transformer``."""
    return (
        "unet"
        if "unet" in backbone.lower() or backbone.startswith(("SD2", "SDXL", "KOALA", "IF-"))
        else "transformer"
    )


def _summary(values: np.ndarray) -> dict[str, Any]:
    spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return {"value": float(values.mean()), "standard_error": spread}
