"""Analysis of a recipe's backbone: its parts, its times, its blocks on the latents it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from assets.graph.interfaces import Store
from evaluation.tables.analysis import BACKBONE_ANALYSIS, BLOCK_SIMILARITIES

if TYPE_CHECKING:
    from evaluation.analysis.backbone import Analysis


def analyse_recipe(store: Store, recipe: str, timed_runs: int, samples: int, threads: int) -> Analysis:
    """Analyse a recipe's newest model on the training shards. Raises FoundryError where a gate failed."""
    from evaluation.analysis.backbone import analyze_folder

    return analyze_folder(
        store.local_folder("backbone", recipe, require_gate=True),
        shards=store.local_folder("training_shards", require_gate=True),
        runs=timed_runs,
        samples=samples,
        name=recipe,
        num_threads=threads,
    )


def analysis_tables(
    store: Store, recipe: str, analysis: Analysis, function_version: int
) -> dict[str, pa.Table]:
    """``backbone_analysis`` and ``block_similarities`` of a recipe."""
    from evaluation.analysis.pictures import part_rows, similarity_rows

    made = {
        "recipe": recipe,
        "model_digest": store.require("backbone", recipe).digest,
        "function_version": function_version,
    }
    about = {"latent": analysis.latent, "timed_runs": analysis.timed_runs}
    looked_at = {"dataset_digest": store.require("training_shards").digest}
    parts = [{**row, **made, **about} for row in part_rows(analysis)]
    blocks = [{**row, **made, **looked_at} for row in similarity_rows(analysis)]
    return {
        "backbone_analysis": pa.Table.from_pylist(parts, schema=BACKBONE_ANALYSIS),
        "block_similarities": pa.Table.from_pylist(blocks, schema=BLOCK_SIMILARITIES),
    }
