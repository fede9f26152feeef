"""Entity annotations in the manner of LayoutSAM: a phrase, a description and a box for each entity, with filters.

What is dropped keeps its row and the reason, so that thresholds can be judged by what they drop.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from assets.captions.recaption import by_sample
from assets.schemas import ENTITY_ANNOTATIONS
from evaluation.perception.captioner import noun_phrase, place_words, with_article
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError

ANNOTATOR_NAME = "entities from perceived regions"
ANNOTATOR_VERSION = 1  # raise when annotations change
Box = list[float]


def annotate(
    regions: pa.Table,
    min_score: float = 0.5,
    min_area: float = 0.01,
    max_overlap_iou: float = 0.6,
    max_entities: int = 10,
    function_version: int = ANNOTATOR_VERSION,
) -> pa.Table:
    """Entities of exactly the samples in ``regions``, as rows of :data:`assets.schemas.ENTITY_ANNOTATIONS`.

    Filters, the first that strikes is the reason: ``low_score`` (probability of the name, or confidence of the
    reading, below ``min_score``), ``too_small`` (area of the box over the image's below ``min_area``),
    ``overlapping`` (intersection over union with a better entity above ``max_overlap_iou``), ``too_many`` (beyond
    the best ``max_entities`` of the image). Better means a higher score, then the larger region.

    Raises:
        FoundryError: a threshold outside [0, 1], or ``max_entities`` below 1.
    """
    limits = {"min_score": min_score, "min_area": min_area, "max_overlap_iou": max_overlap_iou}
    for name, value in limits.items():
        if not 0.0 <= value <= 1.0:
            raise FoundryError(f"{name} is {value}; allowed is 0 to 1")
    if max_entities < 1:
        raise FoundryError(f"max_entities is {max_entities}; allowed is 1 or more")
    rows: list[dict[str, Any]] = []
    for sample_id, found in by_sample(regions):
        entities = [_entity(index, region) for index, region in enumerate(found)]
        _filter(entities, min_score, min_area, max_overlap_iou, max_entities)
        made_by = {
            "model": ANNOTATOR_NAME,
            "model_digest": annotator_digest(
                found[0]["model_digest"], {**limits, "max_entities": max_entities}
            ),
            "function_version": function_version,
        }
        rows += [{"sample_id": sample_id, **entity, **made_by} for entity in entities]
    return pa.Table.from_pylist(rows, schema=ENTITY_ANNOTATIONS)


def annotator_digest(perception_digest: str, limits: dict[str, float]) -> str:
    """sha256 of what an annotation depends on: part of each row's key."""
    settings = {"perception": perception_digest, "version": ANNOTATOR_VERSION, **limits}
    return sha256_bytes(canonical_json(settings).encode())


def intersection_over_union(first: Box, second: Box) -> float:
    """IoU of two normalised xyxy boxes, in [0, 1]; 0 where both are empty."""
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    shared = width * height
    total = _area(first) + _area(second) - shared
    return shared / total if total > 0 else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _entity(index: int, region: dict[str, Any]) -> dict[str, Any]:
    """Phrase and description of a region, before any filter."""
    box = [float(value) for value in region["box_xyxy_norm"]]
    place = place_words(box)
    if region["text"]:
        phrase, score = f'the word "{region["text"]}"', float(region["text_score"])
        description = f"{phrase} in {region['color']} letters {place}"
    else:
        phrase = noun_phrase(region)
        score = float(region["name_scores"][0]) if region["names"] else 0.0
        description = f"{with_article(phrase)} {place}, {_size_words(_area(box))}"
    return {
        "entity_index": index,
        "phrase": phrase,
        "description": description,
        "box_xyxy_norm": box,
        "score": score,
        "keep": True,
        "dropped_because": "",
    }


def _size_words(area_fraction: float) -> str:
    if area_fraction >= 0.25:
        return "filling much of the picture"
    return "of middle size" if area_fraction >= 0.08 else "small"


def _filter(
    entities: list[dict[str, Any]],
    min_score: float,
    min_area: float,
    max_overlap_iou: float,
    max_entities: int,
) -> None:
    """Mark what is dropped and why, in place; the order stays."""
    kept: list[dict[str, Any]] = []
    for entity in sorted(
        entities, key=lambda item: (-item["score"], -_area(item["box_xyxy_norm"]), item["entity_index"])
    ):
        overlaps = (
            intersection_over_union(entity["box_xyxy_norm"], better["box_xyxy_norm"]) for better in kept
        )
        if entity["score"] < min_score:
            reason = "low_score"
        elif _area(entity["box_xyxy_norm"]) < min_area:
            reason = "too_small"
        elif any(overlap > max_overlap_iou for overlap in overlaps):
            reason = "overlapping"
        elif len(kept) >= max_entities:
            reason = "too_many"
        else:
            reason = ""
            kept.append(entity)
        entity["keep"], entity["dropped_because"] = not reason, reason
