"""Pruned models side by side: what each method leaves at the same share, and what it took to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from assets.graph.interfaces import Models, Store
from assets.models.comparison import MARGIN, SCORES
from assets.pages.markdown import markdown_table
from assets.pages.measures import interval_of
from assets.pages.tables import Column, Entry, Table
from assets.pruning.parents import scoring_of
from assets.pruning.pruned_model import read_cost
from evaluation.intervals import Interval
from evaluation.tables.scores import PRUNING_COMPARISON
from training.recipes.pruned_models import is_ablation


def compare_pruned(store: Store, models: Models) -> pa.Table:
    """Rows of :data:`evaluation.tables.scores.PRUNING_COMPARISON` of all pruned models that are made and in the profile."""
    made = [key for key in store.partitions("pruned_backbone") if key in models.of("pruned_backbone")]
    rows = [_row(store, models, key, key, "none") for key in made]
    for key in store.partitions("fine_tuned_backbone"):
        recipe = models.of("fine_tuned_backbone").get(key)
        if recipe is not None and recipe.parent is not None and recipe.parent in models.of("pruned_backbone"):
            recovery = "all weights" if recipe.lora is None else f"LoRA of rank {recipe.lora.rank}"
            rows.append(_row(store, models, key, recipe.parent, recovery))
    rows.sort(key=lambda row: (row["model"], row["method"], row["parameters_left"] * -1, row["recipe"]))
    return pa.Table.from_pylist(rows, schema=PRUNING_COMPARISON)


def _row(store: Store, models: Models, key: str, pruned: str, recovery: str) -> dict[str, Any]:
    recipe, scoring = models.of("pruned_backbone")[pruned], scoring_of(models.recipes, pruned)
    parent, child = store.read_table(SCORES, key).to_pylist()
    cost = read_cost(store.local_folder("unit_scores", scoring.name))
    return {
        "recipe": key,
        "model": scoring.parent,
        "method": scoring.method,
        "recovery": recovery,
        "scores": scoring.name,
        "sparsity": recipe.largest_sparsity,
        "scope": recipe.scope,
        "score_per": recipe.score_per,
        "parameters": child["parameters"],
        "parameters_left": child["parameters"] / parent["parameters"],
        "macs_left": child["macs"] / parent["macs"],
        "milliseconds": child["milliseconds"],
        "speedup": parent["milliseconds"] / child["milliseconds"],
        "peak_memory_left": child["peak_memory_bytes"] / parent["peak_memory_bytes"],
        **{
            name: child[name]
            for score in ("judge_cosine", "relative")
            for name in (score, f"{score}_low", f"{score}_high")
        },
        "intervals_overlap": child["judge_cosine_high"] >= parent["judge_cosine_low"],
        "ssim": child["ssim"],
        "scoring_seconds": cost["seconds"],
        "scoring_evaluations": cost["network_evaluations"],
        "scoring_gradients": cost["backward_evaluations"],
    }


COLUMNS = (
    Column("model"),
    Column("method"),
    Column("recovery"),
    Column("recipe"),
    Column("units removed", ".0%", "by threshold"),
    Column("parameters left", ".1%"),
    Column("multiply-adds left", ".1%"),
    Column("speed-up", ".2f"),
    Column("memory left", ".1%"),
    Column("judge, relative to the whole", "+.1%"),
    Column("intervals overlap"),
    Column("SSIM", ".3f"),
    Column("scoring, s", ",.1f"),
    Column("evaluations", ","),
)


def comparison_markdown(table: pa.Table) -> str:
    """The comparison in Markdown."""
    if not table.num_rows:
        return "No model was pruned yet."
    note = (
        "Minimal degradation is an interval that overlaps the whole model's. Times hold for the machine of each run and "
        "what else it did; intervals are 95% bootstrap over prompts."
    )
    return f"{markdown_table(Table(COLUMNS, [_cells(row) for row in table.to_pylist()]))}\n\n{note}"


def _cells(row: Mapping[str, Any]) -> tuple[Entry, ...]:
    return (
        row["model"],
        row["method"],
        row["recovery"],
        row["recipe"],
        row["sparsity"],
        row["parameters_left"],
        row["macs_left"],
        row["speedup"],
        row["peak_memory_left"],
        interval_of(row, "relative"),
        row["intervals_overlap"],
        row["ssim"],
        row["scoring_seconds"],
        row["scoring_evaluations"],
    )


def comparison_picture(table: pa.Table, margin: float = MARGIN) -> bytes:
    """Relative score over parameters left, a line a model and method, as PNG bytes."""
    from evaluation.plots.tradeoff import TradeOff, tradeoff_plot

    points = [
        TradeOff(
            f"{row['model']}, {row['method']}"
            + ("" if row["recovery"] == "none" else f", {row['recovery']}"),
            row["parameters_left"],
            Interval(row["relative"], row["relative_low"], row["relative_high"]),
        )
        for row in table.to_pylist()
    ]
    return tradeoff_plot(points, title="Pruned models beside the whole ones", margin=margin)


def step_error_pictures(store: Store, table: pa.Table) -> dict[str, bytes]:
    """By whole model: how far each pruned model's prediction is off at every sampling step, as PNG bytes.

    One mask serves all steps; where a curve rises, it serves them unequally. Ablations are left out, and models with
    one pruned model, whose own page has its curve.
    """
    import numpy as np

    from evaluation.plots.panels import Line, lines

    by_model: dict[str, list[str]] = {}
    for row in table.to_pylist():
        if row["recovery"] == "none" and not is_ablation(row["recipe"]):
            by_model.setdefault(row["model"], []).append(row["recipe"])
    pictures = {}
    for model, recipes in by_model.items():
        if len(recipes) < 2:
            continue
        curves = []
        for recipe in recipes:
            errors = store.read_table("pruning_step_errors", recipe)
            steps = errors["step"].to_numpy().astype(np.float64)
            curves.append(Line(recipe, steps, errors["relative_error"].to_numpy()))
        pictures[model] = lines(
            curves,
            title=f"{model}, pruned: error by step",
            x_label="sampling step",
            y_label="relative squared error of the prediction",
        )
    return pictures
