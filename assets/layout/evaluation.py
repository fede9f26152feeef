"""Layout models side by side: how many objects each puts where it was told, and which differences are beyond chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from assets.graph.interfaces import Perception, Store
from assets.graph.step_table import LAYOUT_MODELS
from assets.graph.versions import Provenance
from assets.layout.held_out import branch_of_folder
from assets.layout.judging import judge_of
from assets.layout.questions import Details, asked_of, box_figures, counts_of_answers, details_of
from assets.layout.scores import PICTURES_SHOWN, SheetRow, sheet_of_rows, truth_of_scenes
from assets.layout.seen import DrawnLayouts, any_wanted, told_boxes
from assets.pages.markdown import markdown_table
from assets.pages.measures import interval_of
from assets.pages.tables import Column, Table
from evaluation.benchmarks.layoutsam_eval import Judge, ask
from evaluation.intervals import Interval, status_of
from evaluation.metrics.objects_in_box import counts_in_box, share_in_box
from evaluation.metrics.placement import ratio_over_pictures
from evaluation.metrics.scene_truth import Truth
from evaluation.tables.scores import LAYOUT_EVALUATION

Counts = Int[np.ndarray, "n 2"]
TOLD, FOLLOWED = "objects_in_box", "objects_follow_boxes"
BY_BOXES: Mapping[str, str] = {
    TOLD: "in their box",
    FOLLOWED: "follow exchanged boxes",
    "iou_recall_50": "IoU recall at .5",
    "box_ap_50": "AP at .5",
    "box_ap": "AP",
    "count": "count",
}
"""Perception against hidden truth, and boxes of the detector against told ones: columns of the first table, in order."""
BY_ANSWERS: Mapping[str, str] = {
    "spatial": "spatial",
    "color": "colour",
    "texture": "texture",
    "shape": "shape",
}
"""Answers of the judge (LayoutSAM-Eval): columns of the second table."""
TITLES: Mapping[str, str] = {**BY_BOXES, **BY_ANSWERS}


@dataclass(frozen=True)
class Compared:
    """A layout model with what it drew: by metric, hits and what was asked for, a row a picture; and what is no share of
    pictures' own counts. ``answers``: of LayoutSAM-Eval, None where nobody answers."""

    kind: str
    recipe: str
    branch: str
    digest: str
    drawn: DrawnLayouts
    counts: Mapping[str, Counts] = field(default_factory=dict)
    figures: Mapping[str, Interval] = field(default_factory=dict)
    answers: pa.Table | None = None

    @property
    def sample_ids(self) -> list[str]:
        """Whose layouts were drawn."""
        return self.drawn.layouts.sample_ids


@dataclass(frozen=True)
class Judges:
    """Who looks at the pictures, and the hidden truth that scores what they say."""

    perception: Perception
    truth: Mapping[str, Truth]
    details: Details
    judge: Judge | None

    @classmethod
    def of(cls, store: Store, perception: Perception) -> Judges:
        """The profile's; nobody answers questions where the role is empty."""
        judge = None if perception.model("answers") is None else judge_of(perception)
        return cls(perception, truth_of_scenes(store, perception), details_of(store), judge)


def compared_models(store: Store, judges: Judges) -> list[Compared]:
    """Every published layout model whose held-out layouts are drawn, shipped ones first."""
    found = []
    for kind in LAYOUT_MODELS:
        for key in store.partitions(kind):
            drawn = DrawnLayouts.read(store, kind, key)
            if drawn is not None:
                branch = branch_of_folder(store.local_folder(kind, key, require_gate=True))
                digest = store.require(kind, key).digest
                found.append(_judged(Compared(kind, key, branch, digest, drawn), judges))
    return found


def _judged(model: Compared, judges: Judges) -> Compared:
    drawn, counts, answers = model.drawn, dict[str, Counts](), None
    figures: Mapping[str, Interval] = {}
    if judges.truth and any_wanted(drawn, judges.truth):
        told = told_boxes(drawn, judges.truth, judges.perception)
        counts[TOLD] = counts_in_box(told.sample_ids, told.told, told.found_told)
        counts[FOLLOWED] = counts_in_box(told.sample_ids, told.exchanged, told.found_exchanged)
    samples = asked_of(drawn, judges.details)
    if judges.judge is not None:
        answers = ask(samples, drawn.encoded("told"), judges.judge)
        counts |= counts_of_answers(answers, model.sample_ids)
    if judges.perception.model("detector") is not None:
        figures = box_figures(drawn, samples, judges.perception)
    return replace(model, counts=counts, figures=figures, answers=answers)


def keep_answers(store: Store, models: Sequence[Compared], provenance: Provenance) -> None:
    """Store every answer of the judge about every box, a partition a model."""
    for model in models:
        if model.answers is not None:
            store.write_table("layout_answers", model.answers, provenance, model.recipe)


def evaluation_of(models: Sequence[Compared], judged_by: str) -> pa.Table:
    """Rows of :data:`evaluation.tables.scores.LAYOUT_EVALUATION`: each model by each metric, then every two held together."""
    rows = [
        _row(model, metric, found, judged_by)
        for model in models
        for metric, found in (
            *((name, share_in_box(counts)) for name, counts in model.counts.items()),
            *model.figures.items(),
        )
    ]
    for first, second in combinations(models, 2):
        rows += list(_contrasts(first, second, judged_by))
    return pa.Table.from_pylist(rows, schema=LAYOUT_EVALUATION)


def _contrasts(first: Compared, second: Compared, judged_by: str) -> Iterator[dict[str, Any]]:
    """Differences, paired by picture; nothing where the two drew other layouts."""
    if first.sample_ids != second.sample_ids:
        return
    for metric, mine in first.counts.items():
        if metric not in second.counts:
            continue
        theirs = second.counts[metric]
        difference = difference_in_box(mine, theirs)
        yield {
            **_row(first, metric, difference, judged_by),
            "what": "contrast",
            "other": second.recipe,
            "other_branch": second.branch,
            "status": status_of(difference),
        }


def difference_in_box(first: Counts, second: Counts) -> Interval:
    """Share in box of the first minus that of the second, of the same layouts; pictures are resampled in pairs."""
    return ratio_over_pictures(first[:, 0] - second[:, 0], first[:, 1])


def _row(model: Compared, metric: str, found: Interval, judged_by: str) -> dict[str, Any]:
    return {
        "what": "model",
        "kind": model.kind,
        "recipe": model.recipe,
        "branch": model.branch,
        "metric": metric,
        "value": found.value,
        "value_low": found.low,
        "value_high": found.high,
        "num_objects": int(model.counts[metric][:, 1].sum()) if metric in model.counts else None,
        "num_pictures": len(model.sample_ids),
        "judged_by": judged_by,
        "model_digest": model.digest,
    }


CONTRAST_COLUMNS = (
    Column("First"),
    Column("Second"),
    Column("Measured"),
    Column("First minus second", "+.3f", note="95 %"),
    Column("First above second"),
)


def evaluation_tables(table: pa.Table) -> list[Table]:
    """Models by boxes and by answers, and every two of them held together; a part that nobody measured is left out."""
    rows = table.to_pylist()
    of_models: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["what"] == "model":
            of_models.setdefault(row["recipe"], {})[row["metric"]] = row
    parts = [_table_of_models(of_models, titles) for titles in (BY_BOXES, BY_ANSWERS)]
    contrasts = [
        (
            row["recipe"],
            row["other"],
            TITLES.get(row["metric"], row["metric"]),
            interval_of(row, "value"),
            row["status"],
        )
        for row in rows
        if row["what"] == "contrast"
    ]
    if contrasts:
        parts.append(Table(CONTRAST_COLUMNS, contrasts))
    return [part for part in parts if part is not None]


def _table_of_models(of_models: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> Table | None:
    """A row a model, a column a metric that any model has; None where no model has one."""
    measured = [name for name in titles if any(name in found for found in of_models.values())]
    if not measured:
        return None
    columns = [Column("Layout model"), Column("Branch")]
    columns += [Column(titles[name], ".3f", note="95 %") for name in measured]
    rows = [
        (
            recipe,
            next(iter(found.values()))["branch"],
            *(interval_of(found[name], "value") if name in found else None for name in measured),
        )
        for recipe, found in of_models.items()
    ]
    return Table(columns, rows)


def evaluation_markdown(table: pa.Table) -> str:
    """The same in Markdown."""
    if not table.num_rows:
        return "No layout model drew layouts whose objects are known, so that only the pictures tell."
    first = table.to_pylist()[0]
    about = (
        f"{first['num_pictures']} held-out layouts, the same noise for all. In their box: recognised by {first['judged_by']}. "
        "Spatial to shape: LayoutSAM-Eval's questions to the judge named below; IoU recall, AP and count: what the detector "
        "finds of the phrases, against the told boxes. Differences are paired by picture."
    )
    return "\n\n".join([*(markdown_table(part) for part in evaluation_tables(table)), about])


def evaluation_sheet(store: Store, models: Sequence[Compared]) -> bytes | None:
    """A JPEG: real pictures, and below them what each model drew of the same layouts, told and exchanged; None without any."""
    from assets.models.judging import real_pictures_of

    if not models:
        return None
    layouts = models[0].drawn.layouts
    rows = [SheetRow("real", real_pictures_of(store, layouts.sample_ids[:PICTURES_SHOWN]), "told")]
    for model in models:
        if model.sample_ids == layouts.sample_ids:
            rows.append(SheetRow(model.recipe, model.drawn.images("told"), "told"))
            rows.append(SheetRow(f"{model.recipe}, exchanged", model.drawn.images("exchanged"), "exchanged"))
    return sheet_of_rows(layouts, rows)
