"""What the report says of trainings, and of models that were made from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.models.backbones import SMOOTH_ROWS
from assets.models.comparison import SCORES
from assets.pages.measures import interval_of
from assets.pages.sections import Figure, Section, Sources
from assets.pages.tables import Column, Entry, Table
from training.recipes.distillation_study import is_study

COLUMNS = (
    Column("Recipe"),
    Column("Model"),
    Column("Parameters", ","),
    Column("Multiply-adds", ","),
    Column("ms", ",.1f"),
    Column("Judge score", ",.3f"),
    Column("Relative", ",.3f"),
    Column("SSIM", ",.3f"),
)


def training_section(sources: Sources) -> Section:
    """Loss over images seen, of every backbone that is the newest of its recipe."""
    return Section(
        "Training", "training", figures=_loss_curves(sources), missing="No run folder of a backbone is there."
    )


def _loss_curves(sources: Sources) -> list[Figure]:
    import numpy as np

    from evaluation.plots.basic import Curve, loss_curves
    from training.run_folder import RunFolder

    curves = []
    for path in sorted(sources.models.runs.glob("*/done.json")):
        folder = RunFolder(path.parent)
        done, recipe = folder.read_done(), folder.read_spec().recipe
        manifest = sources.store.current("backbone", recipe.name)
        if done is None or manifest is None or manifest.digest != done.model_digest:
            continue
        metrics = folder.read_metrics()
        seen, loss = (metrics[name].to_numpy().astype(np.float64) for name in ("images_seen", "loss"))
        curves.append(Curve(recipe.name, seen, loss))
    if not curves:
        return []
    curves.sort(key=lambda curve: curve.name)
    return [Figure("Training loss", loss_curves(curves, title="Training loss", smooth=SMOOTH_ROWS))]


def smaller_section(sources: Sources) -> Section | None:
    """Every smaller or fine-tuned model below the one it was made from; studies and pruned ones have their own."""
    pruned = {row["recipe"] for row in sources.rows("pruning_comparison")}
    elsewhere = {*sources.store.partitions("pruned_backbone"), *pruned}
    keys = [key for key in sources.store.partitions(SCORES) if not is_study(key) and key not in elsewhere]
    rows = sources.rows_of_all(SCORES, keys)
    if not rows:
        return None
    return Section(
        "Smaller models",
        "smaller",
        [
            "Each beside the model it was made from: the same prompts and noise. Relative: the judge score minus the "
            "parent's over the parent's, paired by prompt; SSIM: how like the parent's picture it is. Milliseconds: a "
            "batch of 8 through the backbone on this machine, by turns."
        ],
        [Table(COLUMNS, [_smaller_cells(row) for row in rows])],
        [
            Figure(f"{row['parent']} above, {row['recipe']} below, from the same noise", row["sheet"])
            for row in rows
            if row["sheet"] is not None
        ],
    )


def _smaller_cells(row: Mapping[str, Any]) -> tuple[Entry, ...]:
    return (
        row["recipe"],
        row["parent"] if row["model"] == "parent" else row["recipe"],
        row["parameters"],
        row["macs"],
        row["milliseconds"],
        interval_of(row, "judge_cosine"),
        interval_of(row, "relative"),
        row["ssim"],
    )
