"""LayoutSAM-Eval on held-out layouts of the workspace: what is asked, and what was found of the told boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from assets.graph.interfaces import Perception, Store
from assets.layout.judging import detector_of
from assets.layout.seen import DrawnLayouts
from assets.models.judging import held_out_pairs
from assets.pages.markdown import markdown_table
from assets.pages.measures import interval_of
from assets.pages.tables import Column, Table
from evaluation.benchmarks.agreement import judge_agreement
from evaluation.benchmarks.detections import found_boxes, told_boxes
from evaluation.benchmarks.layoutsam_eval import SCORED, Judge
from evaluation.benchmarks.samples import AskedBox, LayoutSample
from evaluation.boxes import Box
from evaluation.intervals import Interval
from evaluation.metrics.box_metrics import box_metrics
from evaluation.metrics.scene_truth import Truth

Details = Mapping[tuple[str, Box], str]
"""Detailed descriptions of entities, by sample and box."""


def details_of(store: Store) -> Details:
    """What the describer said of every kept entity."""
    columns = ["sample_id", "box_xyxy_norm", "description", "keep"]
    rows = store.read_all("entity_annotations", columns).to_pylist()
    return {_place(row["sample_id"], row["box_xyxy_norm"]): row["description"] for row in rows if row["keep"]}


def asked_of(drawn: DrawnLayouts, details: Details) -> list[LayoutSample]:
    """The questions' samples: what was told, with the detailed description beside the phrase."""
    layouts = drawn.layouts
    return [
        LayoutSample(
            sample_id,
            layout.caption,
            tuple(
                AskedBox(
                    entity.phrase,
                    details.get(_place(sample_id, entity.box_xyxy_norm)) or entity.phrase,
                    entity.box_xyxy_norm,
                )
                for entity in layout.entities
            ),
        )
        for sample_id, layout in zip(layouts.sample_ids, layouts.layouts, strict=True)
    ]


def counts_of_answers(answers: pa.Table, sample_ids: Sequence[str]) -> dict[str, Int[np.ndarray, "n 2"]]:
    """By metric of LayoutSAM-Eval boxes with a Yes and all boxes, a row a picture."""
    place = {key: row for row, key in enumerate(sample_ids)}
    rows = np.array([place[key] for key in answers["image_id"].to_pylist()], np.int64)
    boxes = np.bincount(rows, minlength=len(place))
    counts = {}
    for metric in SCORED:
        hits = answers[metric].fill_null(False).to_numpy(zero_copy_only=False)
        counts[metric] = np.stack(
            [np.bincount(rows, weights=hits, minlength=len(place)).astype(np.int64), boxes], axis=1
        )
    return counts


def box_figures(
    drawn: DrawnLayouts, samples: Sequence[LayoutSample], perception: Perception
) -> dict[str, Interval]:
    """How tightly found boxes match told ones, by metric."""
    found = found_boxes(samples, drawn.encoded("told"), detector_of(perception))
    metrics = box_metrics(told_boxes(samples), found)
    return {
        "iou_recall_50": metrics.recall,
        "box_ap_50": metrics.ap50,
        "box_ap": metrics.ap,
        "count": metrics.count,
    }


def agreement_on_real(
    store: Store, truth: Mapping[str, Truth], sample_ids: Sequence[str], judge: Judge
) -> pa.Table:
    """How far to trust the judge: its answers about real pictures of the same samples, against the hidden truth."""
    pairs = held_out_pairs(store)
    pictures = dict(zip(pairs["sample_id"].to_pylist(), pairs["image"].to_pylist(), strict=True))
    chosen = [key for key in sample_ids if key in pictures and key in truth]
    return judge_agreement({key: truth[key] for key in chosen}, {key: pictures[key] for key in chosen}, judge)


AGREEMENT_COLUMNS = (
    Column("Question"),
    Column("Right answer"),
    Column("Answered so", ".3f", note="95 %"),
    Column("Questions", ","),
    Column("Real pictures", ","),
)


def agreement_markdown(table: pa.Table) -> str:
    """How far to trust the judge, in Markdown."""
    rows = [
        (
            row["question"],
            row["side"],
            interval_of(row, "accuracy"),
            row["num_questions"],
            row["num_pictures"],
        )
        for row in table.to_pylist()
    ]
    judge = table["judge"][0].as_py() if table.num_rows else "nobody"
    return markdown_table(Table(AGREEMENT_COLUMNS, rows)) + (
        f"\n\nJudge: {judge}, asked about real pictures whose truth is known. Right answer no: the phrase is of something that the "
        "picture does not show. Scores of two judges do not compare."
    )


def _place(sample_id: str, box: Sequence[float]) -> tuple[str, Box]:
    return sample_id, tuple(round(float(value), 4) for value in box)
