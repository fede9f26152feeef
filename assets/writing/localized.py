"""Low-rank adapters on the layers that write, and on more: what each learns beside its parent, and beside the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from assets.graph.interfaces import Models, Perception, Store
from assets.models.children import Child
from assets.models.training_runs import TrainedRun
from assets.pages.markdown import markdown_table
from assets.pages.measures import interval_of
from assets.pages.tables import Column, Table
from assets.writing.configs import LocalizedLoraConfig
from assets.writing.localizing import located_layers
from assets.writing.lora_recipes import LAYERS, resolved_targets, sweep_version
from assets.writing.prompt_sets import PROMPT_SETS
from assets.writing.text_model import TextModel, ocr_of
from assets.writing.written import (
    METRICS,
    Looks,
    Written,
    difference_of,
    mean_of,
    prompts_digest,
    stored_text_model,
    with_size_of_data,
    write,
)
from evaluation.intervals import bounded, status_of
from evaluation.localization.prompts import WordPair
from evaluation.tables.localization import LOCALIZED_LORA_COMPARISON, LOCALIZED_LORA_SCORES
from training.errors import FoundryError
from training.recipes.text_layers import LOCATED
from training.recipes.validation import nearest

SCORES = "localized_lora_scores"
SHEET_PICTURES = 8


@dataclass(frozen=True)
class Adapted:
    """Adapters to be trained: the child with its targets resolved, the sweep's layers, and what it is asked."""

    child: Child
    targets: tuple[str, ...]
    layers: tuple[str, ...]
    pairs: tuple[WordPair, ...]


def adapted_child(store: Store, models: Models, child: Child, config: LocalizedLoraConfig) -> Adapted:
    """The child whose adapters sit where its recipe says. Raises FoundryError where no layers were chosen."""
    _, sweep = sweep_version(models.recipes, child.recipe.name)
    assert child.recipe.lora is not None
    targets = child.recipe.lora.targets
    layers = located_layers(store.read_table(LAYERS, sweep)) if LOCATED in targets else ()
    prompts = PROMPT_SETS[models.of(LAYERS)[sweep].prompts]
    resolved = replace(child, recipe=resolved_targets(child.recipe, layers))
    return Adapted(resolved, targets, layers, tuple(prompts.pairs(config.num_prompts, "rarer")))


@dataclass(frozen=True)
class LoraComparison:
    """Rows of :data:`evaluation.tables.localization.LOCALIZED_LORA_SCORES`, and what parent and child drew."""

    table: pa.Table
    parent: Written
    child: Written


def compare_adapted(
    store: Store,
    models: Models,
    perception: Perception,
    adapted: Adapted,
    run: TrainedRun,
    config: LocalizedLoraConfig,
) -> LoraComparison:
    """Draw words that no layer was found with, by parent and child from the same noise, and measure both."""
    from training.adapters.lora import num_adapter_parameters
    from training.backbones import model_parameters

    looks = Looks.of(store, ocr_of(perception))
    parent = stored_text_model(store, models, adapted.child.parent)
    child = with_size_of_data(store, TextModel.load(run.folder.model, models.text_encoder))
    drawn = [
        write(model, adapted.pairs, looks, config.num_steps, config.guidance) for model in (parent, child)
    ]
    recipe = adapted.child.recipe
    assert recipe.lora is not None
    trainable = num_adapter_parameters(parent.denoiser.backbone, recipe.lora)
    about = {
        "recipe": recipe.name,
        "parent": recipe.parent,
        "targets": ", ".join(adapted.targets),
        "layers": list(adapted.layers),
        "trainable_parameters": trainable,
        "share": trainable / model_parameters(parent.denoiser.backbone),
        "images_seen": run.done.images_seen,
        "num_prompts": len(adapted.pairs),
        "prompts": prompts_digest(adapted.pairs, config.num_steps, config.guidance),
        "num_steps": config.num_steps,
        "guidance": config.guidance,
        "read_by": looks.engine.name,
        "model_digest": run.done.model_digest,
    }
    rows = [row for metric in METRICS for row in _rows(metric, *drawn)]
    table = pa.Table.from_pylist([{**row, **about} for row in rows], schema=LOCALIZED_LORA_SCORES)
    return LoraComparison(table, *drawn)


def _rows(metric: str, parent: Written, child: Written) -> Iterator[dict[str, Any]]:
    if metric not in parent.units:
        return
    mine, other = child.units[metric], parent.units[metric]
    for what, found, units in (
        ("parent", mean_of(metric, other), other),
        ("adapted", mean_of(metric, mine), mine),
        ("difference", difference_of(metric, mine, other), None),
    ):
        by_unit = None if units is None else units.tolist()
        yield {"metric": metric, "what": what, **bounded("value", found), "by_unit": by_unit}


def compare_loras(store: Store, metrics: Sequence[str] = tuple(METRICS)) -> tuple[pa.Table, pa.Table]:
    """All scores of adapters that there are, and every two on the same parent held together by the same prompts.

    Raises FoundryError for a metric that is not measured.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise FoundryError(f"'metrics' names '{metric}'; {nearest(metric, list(METRICS))}")
    tables = [store.read_table(SCORES, key) for key in store.partitions(SCORES)]
    scores = pa.concat_tables(tables) if tables else LOCALIZED_LORA_SCORES.empty_table()
    adapted = [row for row in scores.to_pylist() if row["what"] == "adapted"]
    rows = [
        _contrast(first, second)
        for first, second in combinations(adapted, 2)
        if first["metric"] in metrics
        and all(first[field] == second[field] for field in ("metric", "parent", "prompts"))
    ]
    return scores, pa.Table.from_pylist(rows, schema=LOCALIZED_LORA_COMPARISON)


def _contrast(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    units = [np.array(row["by_unit"], np.float64) for row in (first, second)]
    found = difference_of(first["metric"], *units)
    return {
        "recipe": first["recipe"],
        "other": second["recipe"],
        "targets": first["targets"],
        "other_targets": second["targets"],
        "metric": first["metric"],
        **bounded("value", found),
        "status": status_of(found),
        "num_units": len(units[0]),
    }


CONTRASTS = (
    Column("First"),
    Column("Second"),
    Column("Measured"),
    Column("First minus second", "+.3f", note="95 %"),
    Column("First above second"),
)


def lora_tables(scores: pa.Table, contrasts: pa.Table) -> list[Table]:
    """Adapters against their trainable parameters, and every two held together; none before there are any."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in scores.to_pylist():
        if row["what"] != "difference":
            name = row["parent"] if row["what"] == "parent" else row["recipe"]
            rows.setdefault((row["what"], name), {"about": row})[row["metric"]] = row
    if not rows:
        return []
    measured = [name for name in METRICS if any(name in found for found in rows.values())]
    columns = [Column("Model"), Column("Adapters on"), Column("trainable parameters"), Column("images")]
    columns += [Column(METRICS[name], ".3f", note="95 %") for name in measured]
    cells = []
    for (what, name), found in sorted(rows.items(), key=lambda item: item[0][0] != "parent"):
        about = found["about"]
        own = ("none", "", "")
        if what == "adapted":
            own = (
                about["targets"],
                f"{about['trainable_parameters']:,} ({about['share']:.2%})",
                f"{about['images_seen']:,}",
            )
        values = (interval_of(found[metric], "value") if metric in found else None for metric in measured)
        cells.append((name, *own, *values))
    tables = [Table(columns, cells)]
    if contrasts.num_rows:
        compared = [
            (
                row["recipe"],
                row["other"],
                METRICS[row["metric"]],
                interval_of(row, "value"),
                row["status"],
            )
            for row in contrasts.to_pylist()
        ]
        tables.append(Table(CONTRASTS, compared))
    return tables


def lora_markdown(scores: pa.Table, contrasts: pa.Table) -> str:
    """The same for a page."""
    if not scores.num_rows:
        return "No adapters have been trained yet."
    first = scores.to_pylist()[0]
    about = (
        f"{first['num_prompts']} words that no layer was found with, {first['num_steps']} steps, guidance {first['guidance']:g}, the "
        f"same noise for all. Read by {first['read_by']}. Image-text score: this workspace's judge, which knows no random strings "
        "and so tells colours. Fidelity and diversity: precision and recall of manifolds of EfficientNet-Lite0 features beside "
        "held-out pictures through the autoencoder and back."
    )
    tables = lora_tables(scores, contrasts)
    return "\n\n".join([*(markdown_table(part) for part in tables), about])
