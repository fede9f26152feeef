"""Analysis of a recipe's backbone: its parts, its times, its blocks on the latents it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assets.graph.interfaces import Store
from assets.pages.markdown import markdown_table
from assets.pages.tables import Column, Entry, Table
from evaluation.tables.analysis import BACKBONE_ANALYSIS, BLOCK_SIMILARITIES

if TYPE_CHECKING:
    from evaluation.analysis.backbone import Analysis
    from evaluation.analysis.breakdown import Cell
    from evaluation.analysis.similarity import BlockSimilarity


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


COLUMNS = (
    Column("part"),
    Column("parameters", ","),
    Column("%", ".1%"),
    Column("multiply-adds, M", ",.1f"),
    Column("%", ".1%"),
    Column("ms", ".2f"),
    Column("%", ".1%"),
)


def analysis_markdown(analysis: Analysis) -> str:
    """Totals by stage and by kind, and the blocks that change their input least, as Markdown."""
    from evaluation.analysis.breakdown import totals

    stages, kinds = totals(analysis.cells, "stage"), totals(analysis.cells)
    whole = stages["all"]
    by_stage = [_cells(name, cell, whole) for name, cell in stages.items() if name != "all"]
    by_kind = [_cells(name, cell, whole) for name, cell in kinds.items() if name != "all"]
    parts = [
        markdown_table(Table(COLUMNS, by_stage)),
        markdown_table(Table(COLUMNS, [*by_kind, _cells("all", whole, whole)])),
    ]
    if analysis.undisturbed_nanoseconds is not None:
        milliseconds = analysis.undisturbed_nanoseconds / 1e6
        parts.append(
            f"Without the clock's hooks a pass took {milliseconds:.2f} ms (median of {analysis.timed_runs})."
        )
    return "\n\n".join([*parts, *_least_changed(analysis.similarities)])


def _cells(name: str, cell: Cell, whole: Cell) -> tuple[Entry, ...]:
    macs, all_macs = cell.macs + cell.product_macs, whole.macs + whole.product_macs
    time: tuple[Entry, Entry] = (None, None)
    if cell.nanoseconds is not None and whole.nanoseconds:
        time = (cell.nanoseconds / 1e6, cell.nanoseconds / whole.nanoseconds)
    share = cell.parameters / whole.parameters
    return (name.replace("_", " "), cell.parameters, share, macs / 1e6, macs / all_macs, *time)


def _least_changed(similarities: Sequence[BlockSimilarity], count: int = 3) -> list[str]:
    """Blocks by the mean cosine over noise levels: the first to look at when something has to go."""
    found: dict[str, list[float]] = {}
    for row in similarities:
        if row.cosine is not None:
            found.setdefault(row.block, []).append(row.cosine)
    ranked = sorted(found, key=lambda block: -float(np.mean(found[block])))[:count]
    if not ranked:
        return []
    blocks = ", ".join(f"`{block}` {np.mean(found[block]):.3f}" for block in ranked)
    return [f"Blocks that change their input least (cosine, mean over noise levels): {blocks}"]
