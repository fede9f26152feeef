"""How right perceived regions and generated captions are, against the scenes' hidden truth.

Plain Arrow tables in: regions (:data:`evaluation.tables.perception.REGIONS`), recaptions (sample_id, caption, keep), truth
(sample_id, objects, word, background). Figures are those of :mod:`evaluation.metrics.grouped_counts`: by group of images,
with chance and oracle beside them. Without truth every figure is None: unknown, not zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from evaluation.boxes import Box, match_pairs
from evaluation.metrics.grouped_counts import Counts, score_images, scores_table
from evaluation.metrics.scene_truth import Truth, color_words, mentions, read_truth, require_columns

METRICS: dict[str, str] = {
    "name_precision": "names given that are the exact name of something in the image",
    "name_recall": "objects in the image whose exact name was given",
    "mention_precision": "concepts mentioned in the kept generated captions that are in the image",
    "mention_recall": "objects in the image that the kept generated captions mention by their exact name",
    "region_precision": "regions found that match an object's box, any class, IoU at least 0.5",
    "region_recall": "objects whose region was found, any class, IoU at least 0.5",
    "region_mean_iou": "mean IoU of the regions' boxes that match",
    "word_exact_match": "rendered words read exactly, over images with a word",
    "word_precision": "readings that are exactly the rendered word, over all readings",
    "background_color_accuracy": "images whose background colours are named exactly",
}


@dataclass(frozen=True)
class Perceived:
    """What perception said about one image. ``colors`` of the background, boxes normalised xyxy."""

    names: frozenset[str]
    boxes: tuple[Box, ...]
    word: str
    colors: frozenset[str]
    captions: tuple[str, ...]


def perception_scores(
    regions: pa.Table,
    truth: pa.Table,
    recaptions: pa.Table | None = None,
    held_out_names: Collection[str] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pa.Table:
    """All figures as rows of :data:`evaluation.metrics.grouped_counts.SCORES`: every metric, group and system.

    Only samples in both ``regions`` and ``truth`` count; names are compared exactly.

    Raises:
        FoundryError: a column is missing.
    """
    require_columns(regions, "regions", ("sample_id", "names", "box_xyxy_norm", "text", "background_color"))
    known = read_truth(truth)
    said = read_perceived(regions, recaptions)
    pairs = [(said[sample_id], known[sample_id]) for sample_id in sorted(set(said) & set(known))]
    concepts = frozenset(name for item in known.values() for name in item.names)
    count = partial(image_counts, concepts=concepts)
    scores = score_images(pairs, METRICS, count, _oracle, held_out_names, resamples=resamples, seed=seed)
    if recaptions is None:  # without captions nothing can be said about them
        scores = [
            replace(score, value=None, low=None, high=None) if score.metric.startswith("mention") else score
            for score in scores
        ]
    return scores_table(scores)


def read_perceived(regions: pa.Table, recaptions: pa.Table | None = None) -> dict[str, Perceived]:
    """What was perceived, by sample. Whole-image rows without a name (nothing was found) give no box.

    Captions that were dropped do not count: nobody trains on them.
    """
    captions: dict[str, list[str]] = {}
    if recaptions is not None:
        require_columns(recaptions, "recaptions", ("sample_id", "caption", "keep"))
        for row in recaptions.filter(recaptions["keep"]).select(["sample_id", "caption"]).to_pylist():
            captions.setdefault(row["sample_id"], []).append(row["caption"])
    columns = [
        "sample_id",
        "region_index",
        "names",
        "box_xyxy_norm",
        "text",
        "background_color",
    ]
    grouped: dict[str, list[dict[str, Any]]] = {}
    order = [("sample_id", "ascending"), ("region_index", "ascending")]
    for row in regions.select(columns).sort_by(order).to_pylist():
        grouped.setdefault(row["sample_id"], []).append(row)
    return {
        sample_id: Perceived(
            names=frozenset(row["names"][0] for row in rows if row["names"]),
            boxes=tuple(tuple(row["box_xyxy_norm"]) for row in rows if _is_object(row)),
            word=" ".join(row["text"] for row in rows if row["text"]),
            colors=color_words(rows[0]["background_color"]),
            captions=tuple(captions.get(sample_id, ())),
        )
        for sample_id, rows in grouped.items()
    }


def _is_object(row: Mapping[str, Any]) -> bool:
    whole = list(row["box_xyxy_norm"]) == [0.0, 0.0, 1.0, 1.0]
    return not row["text"] and (bool(row["names"]) or not whole)


def _oracle(truth: Truth) -> Perceived:
    caption = " and ".join(sorted(truth.names))
    return Perceived(
        truth.names, tuple(box for _, box in truth.objects), truth.word, truth.colors, (caption,)
    )


def image_counts(
    found: Perceived, truth: Truth, only: frozenset[str] | None = None, *, concepts: frozenset[str]
) -> Counts:
    """(numerator, denominator) of every metric for one image; recalls count the names in ``only`` when given."""
    present = truth.names
    wanted = present if only is None else present & only
    mentioned = {name for caption in found.captions for name in mentions(caption, concepts)}
    matched = match_pairs(found.boxes, [box for _, box in truth.objects])
    wanted_rows = {row for row, (name, _) in enumerate(truth.objects) if only is None or name in only}
    read_right = bool(truth.word) and found.word == truth.word
    return {
        "name_precision": (len(found.names & present), len(found.names)),
        "name_recall": (len(found.names & wanted), len(wanted)),
        "mention_precision": (len(mentioned & present), len(mentioned)),
        "mention_recall": (len(mentioned & wanted), len(wanted)),
        "region_precision": (len(matched), len(found.boxes)),
        "region_recall": (sum(row in wanted_rows for _, row, _ in matched), len(wanted_rows)),
        "region_mean_iou": (sum(iou for *_, iou in matched), len(matched)),
        "word_exact_match": (read_right, bool(truth.word)),
        "word_precision": (read_right, bool(found.word)),
        "background_color_accuracy": (found.colors == truth.colors, bool(truth.colors)),
    }
