"""How right annotated entities are, against the scenes' hidden truth: boxes, names, and the attributes described.

An entity is a box with a phrase. Boxes on a rendered word are neither right nor wrong here, whatever their phrase:
reading is scored by :mod:`evaluation.metrics.perception_scores`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from evaluation.boxes import Box, match_pairs
from evaluation.metrics.grouped_counts import Counts, score_images, scores_table
from evaluation.metrics.scene_truth import Truth, mentions, read_truth, require_columns

METRICS: dict[str, str] = {
    "object_precision": "concepts that the phrases name and that are in the image",
    "object_recall": "objects in the image that a phrase names exactly",
    "box_precision": "boxes that match an object's box, whatever the phrase, IoU at least 0.5",
    "box_recall": "objects with a matching box, whatever the phrase, IoU at least 0.5",
    "box_mean_iou": "mean IoU of the boxes that match",
    "named_box_precision": "boxes that match an object and name it exactly",
    "named_box_recall": "objects with a matching box that names them exactly",
}


@dataclass(frozen=True)
class Entity:
    """A box (normalised xyxy) with its phrase and, where it was described, its description."""

    box: Box
    phrase: str
    description: str = ""


Entities = tuple[Entity, ...]


def entity_scores(
    entities: pa.Table,
    truth: pa.Table,
    sample_ids: Collection[str],
    held_out_names: Collection[str] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pa.Table:
    """All figures as rows of :data:`evaluation.metrics.grouped_counts.SCORES`.

    Args:
        entities: columns sample_id, phrase, box_xyxy_norm: one annotator's boxes, or the kept annotations.
        truth: rows of the truth table.
        sample_ids: samples that were annotated; one without entities has none, which costs recall.
        held_out_names: concepts that training never shows.

    Raises:
        FoundryError: a column is missing.
    """
    known = read_truth(truth)
    said = read_entities(entities)
    pairs = [(said.get(sample_id, ()), known[sample_id]) for sample_id in sorted({*sample_ids} & set(known))]
    concepts = frozenset(name for item in known.values() for name in item.names)
    count = partial(entity_counts, concepts=concepts)
    return scores_table(
        score_images(pairs, METRICS, count, _oracle, held_out_names, resamples=resamples, seed=seed)
    )


def read_entities(entities: pa.Table) -> dict[str, Entities]:
    """Entities by sample."""
    require_columns(entities, "entities", ("sample_id", "phrase", "box_xyxy_norm"))
    has_descriptions = "description" in entities.column_names
    found: dict[str, list[Entity]] = {}
    columns = ["sample_id", "phrase", "box_xyxy_norm", *(["description"] if has_descriptions else [])]
    for row in entities.select(columns).to_pylist():
        entity = Entity(tuple(row["box_xyxy_norm"]), row["phrase"], row.get("description", ""))
        found.setdefault(row["sample_id"], []).append(entity)
    return {sample_id: tuple(rows) for sample_id, rows in found.items()}


def matched_objects(found: Entities, truth: Truth) -> tuple[Entities, list[tuple[Entity, int, float]]]:
    """Entities that count, and of them (entity, index of its object, IoU) where a box matches.

    The rendered word takes part in the matching, so that a box on it is not counted against an object.
    """
    boxes = [box for _, box in truth.objects]
    wanted = boxes if truth.word_box is None else [*boxes, truth.word_box]
    pairs = match_pairs([entity.box for entity in found], wanted)
    on_word = {row for row, column, _ in pairs if column == len(boxes)}
    counted = tuple(entity for row, entity in enumerate(found) if row not in on_word)
    return counted, [(found[row], column, iou) for row, column, iou in pairs if column < len(boxes)]


def _oracle(truth: Truth) -> Entities:
    return tuple(Entity(box, name) for name, box in truth.objects)


def entity_counts(
    found: Entities, truth: Truth, only: frozenset[str] | None = None, *, concepts: frozenset[str]
) -> Counts:
    """(numerator, denominator) of every metric for one image; recalls count the names in ``only`` when given."""
    counted, matched = matched_objects(found, truth)
    wanted = {index for index, (name, _) in enumerate(truth.objects) if only is None or name in only}
    wanted_names = truth.names if only is None else truth.names & only
    said = {name for entity in counted for name in mentions(entity.phrase, concepts)}
    named = [
        index for entity, index, _ in matched if truth.objects[index][0] in mentions(entity.phrase, concepts)
    ]
    return {
        "object_precision": (len(said & truth.names), len(said)),
        "object_recall": (len(said & wanted_names), len(wanted_names)),
        "box_precision": (len(matched), len(counted)),
        "box_recall": (sum(index in wanted for _, index, _ in matched), len(wanted)),
        "box_mean_iou": (sum(iou for *_, iou in matched), len(matched)),
        "named_box_precision": (len(named), len(counted)),
        "named_box_recall": (sum(index in wanted for index in named), len(wanted)),
    }


def entities_by_annotator(boxes: pa.Table) -> Mapping[str, pa.Table]:
    """Rows of a boxes table by its column ``annotator``, in order of name."""
    import pyarrow.compute as pc

    names = sorted(pc.unique(boxes["annotator"]).to_pylist())
    return {name: boxes.filter(pc.equal(boxes["annotator"], name)) for name in names}
