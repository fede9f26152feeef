"""What the report says of pruning: every pruned model beside the whole one, and what recovery made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.pages.measures import interval_of
from assets.pages.sections import Figure, Section, Sources
from assets.pages.tables import Column, Entry, Table
from assets.pruning.comparison import comparison_picture
from training.recipes.pruned_models import is_ablation

COLUMNS = (
    Column("Recipe"),
    Column("Model"),
    Column("Scored by"),
    Column("Recovery"),
    Column("Units removed", ",.2f", "by threshold"),
    Column("Parameters left", ",.3f"),
    Column("Multiply-adds left", ",.3f"),
    Column("Speed-up", ",.2f"),
    Column("Memory left", ",.3f"),
    Column("Relative", ",.3f"),
    Column("SSIM", ",.3f"),
    Column("Scoring, s", ",.1f"),
)


def pruned_section(sources: Sources) -> Section | None:
    """Pruned models; None before there is one."""
    table = sources.table("pruning_comparison")
    if table is None or not table.num_rows:
        return None
    scatter = Figure("Judge score over size", comparison_picture(table))
    return Section(
        "Pruned models",
        "pruned",
        [
            "Attention heads and neurons removed by their scores (EcoDiff and baselines at equal shares); every weight that "
            "is left is as it was unless a recovery is named. Units and parameters are different shares: not all parameters "
            "belong to units. Relative: the judge score minus the whole model's over the whole's, paired by prompt."
        ],
        [Table(COLUMNS, [_cells(row) for row in table.to_pylist()])],
        [scatter, *_sheets(sources)],
    )


def _cells(row: Mapping[str, Any]) -> tuple[Entry, ...]:
    return (
        row["recipe"],
        row["model"],
        row["method"],
        row["recovery"],
        row["sparsity"],
        row["parameters_left"],
        row["macs_left"],
        row["speedup"],
        row["peak_memory_left"],
        interval_of(row, "relative"),
        row["ssim"],
        row["scoring_seconds"],
    )


def _sheets(sources: Sources) -> list[Figure]:
    """What each model with scored units draws, the more of it is gone; ablations are left out."""
    figures = []
    for key in sources.store.partitions("unit_scores"):
        if not is_ablation(key):
            sheet = sources.store.local_folder("unit_scores", key) / "sparsities.jpg"
            title = f"{key}: whole, and with 10, 20, 30 and 50% of the units removed"
            figures.append(Figure(title, sheet.read_bytes()))
    return figures
