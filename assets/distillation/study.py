"""What a distillation study says so far: scores by cell over seeds, and its contrasts with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from assets.graph.interfaces import Store
from assets.models.comparison import SCORES
from assets.pages.markdown import markdown_table
from assets.pages.measures import interval_of
from assets.pages.tables import Column, Entry, Table
from evaluation.intervals import Interval
from evaluation.tables.scores import DISTILLATION_STUDY
from training.recipes.distillation_study import (
    DistillationStudy,
    StudyContrast,
    by_cell,
    is_study,
    partition_of,
)

Scores = Mapping[str, np.ndarray]
"""The judge's cosines by cell: a row a seed, a column a prompt."""


@dataclass(frozen=True)
class StudySummary:
    """Rows of :data:`evaluation.tables.scores.DISTILLATION_STUDY`, and the same in Markdown, with what is still missing."""

    table: pa.Table
    markdown: str
    num_made: int
    num_planned: int


def summarise_study(store: Store, study: DistillationStudy | None, level: float = 0.95) -> StudySummary:
    """Put together what was distilled and scored so far; a contrast without two seeds a side waits."""
    if study is None:
        return StudySummary(
            pa.Table.from_pylist([], schema=DISTILLATION_STUDY), "The profile has no study.", 0, 0
        )
    made = {
        key: next(row for row in store.read_table(SCORES, key).to_pylist() if row["model"] == "child")
        for key in store.partitions(SCORES)
        if is_study(key)
    }
    cells = by_cell(study, made)
    scores = {
        cell: np.array([row["prompt_cosines"] for row in found]) for cell, found in cells.items()
    }  # of seeds x prompts
    rows = [_cell_row(cell, found, scores, level) for cell, found in cells.items()]
    rows += [_contrast_row(contrast, scores, level) for contrast in study.contrasts]
    planned = [partition_of(cell, seed) for seed in study.seeds for cell in study.cells]
    return StudySummary(
        pa.Table.from_pylist(rows, schema=DISTILLATION_STUDY),
        study_markdown(rows),
        sum(name in made for name in planned),
        len(planned),
    )


def study_picture(rows: Sequence[dict[str, Any]]) -> bytes | None:
    """The contrasts that can be told, as PNG; None before there is one."""
    from evaluation.plots.contrasts import Contrast, contrast_plot

    told = [
        Contrast(f"{row['left']} over {row['right']}", Interval(row["value"], row["low"], row["high"]))
        for row in rows
        if row["what"] == "contrast" and row["value"] is not None
    ]
    if not told:
        return None
    return contrast_plot(
        told, title="What the paper says is better", x_label="difference of the judge's cosine"
    )


CELL_COLUMNS = (
    Column("cell"),
    Column("seeds", ","),
    Column("parameters", ","),
    Column("judge cosine, mean over seeds", ".4f"),
)
CONTRAST_COLUMNS = (
    Column("Factor"),
    Column("Better by the paper"),
    Column("Than"),
    Column("Trainings", ","),
    Column("Difference of judge cosine", "+.4f"),
    Column("Outcome"),
)


def study_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Cells, best first, then contrasts, in Markdown."""
    cells = sorted((row for row in rows if row["what"] == "cell"), key=lambda row: -row["value"])
    told = [(row["name"], row["num_seeds"], row["parameters"], _interval(row)) for row in cells]
    tables = (Table(CELL_COLUMNS, told), Table(CONTRAST_COLUMNS, contrast_rows(rows)))
    return "\n\n".join(markdown_table(table) for table in tables)


def contrast_rows(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Entry, ...]]:
    """The contrasts among a study's rows, as they stand in a table."""
    return [
        (row["name"], row["left"], row["right"], row["num_seeds"], _interval(row), row["status"])
        for row in rows
        if row["what"] == "contrast"
    ]


def _interval(row: Mapping[str, Any]) -> Interval | float | None:
    return interval_of({**row, "value_low": row["low"], "value_high": row["high"]}, "value")


def _cell_row(cell: str, found: Sequence[dict[str, Any]], scores: Scores, level: float) -> dict[str, Any]:
    """The mean over seeds; its interval is of seed noise, one variance for all cells, and not of the choice of prompts."""
    from evaluation.claims.contrasts import seed_half_width

    value = float(scores[cell].mean())
    groups = [group.mean(axis=1) for group in scores.values()]
    half = seed_half_width(groups, 1 / len(found), level) if len(found) > 1 else None
    return {
        **_EMPTY,
        "what": "cell",
        "name": cell,
        "num_seeds": len(found),
        "parameters": found[0]["parameters"],
        "value": value,
        "low": None if half is None else value - half,
        "high": None if half is None else value + half,
    }


def _contrast_row(contrast: StudyContrast, scores: Scores, level: float) -> dict[str, Any]:
    from evaluation.claims.contrasts import ContrastedCell, lower_over_cells
    from evaluation.intervals import status_of

    names = (contrast.left, contrast.right)
    about = {
        **_EMPTY,
        "what": "contrast",
        "name": contrast.factor,
        "left": contrast.left,
        "right": contrast.right,
        "num_seeds": sum(len(scores[name]) for name in names if name in scores),
        "status": "waits for two seeds a side",
    }
    if any(len(scores.get(name, ())) < 2 for name in names):
        return about
    # lower is better there, and more of the judge's cosine is better here
    left, right = (-scores[name] for name in names)
    others = [group for name, group in scores.items() if name not in names]
    difference = lower_over_cells([ContrastedCell(contrast.factor, left, right)], others=others, level=level)
    return {
        **about,
        "value": difference.value,
        "low": difference.low,
        "high": difference.high,
        "status": status_of(difference),
    }


_EMPTY: dict[str, Any] = dict.fromkeys(("parameters", "value", "low", "high", "left", "right", "status"))
