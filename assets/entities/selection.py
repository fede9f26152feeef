"""Which boxes become entities: filters one after the other, each with a reason that stays beside what it dropped.

Vectorised over samples: 10 million boxes are a matter of a minute. :func:`select_entities` says what the filters do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from assets.captions.recaption import require_columns
from assets.graph.schemas import ENTITY_ANNOTATIONS, ENTITY_BOXES
from evaluation.tables.perception import DESCRIPTIONS
from training.errors import FoundryError

DESCRIPTION_COLUMNS = ("description", "description_score", "description_model", "description_digest")
SELECTED_ENTITIES = pa.schema(
    [field for field in ENTITY_ANNOTATIONS if field.name not in DESCRIPTION_COLUMNS]
)
"""Columns of :data:`assets.graph.schemas.ENTITY_ANNOTATIONS` that are known before anything is described."""

REASONS = ("", "low_score", "too_small", "overlapping", "too_many", "too_few")
_LOW_SCORE, _TOO_SMALL, _OVERLAPPING, _TOO_MANY, _TOO_FEW = range(1, len(REASONS))
_PAIRS_AT_ONCE = 2_000_000  # intersections computed in one go: bounds memory to some 100 MB


def entity_id(sample_id: str, annotator: str, phrase: str, box_xyxy_norm: Sequence[float]) -> str:
    """sha256 of what makes an entity itself; the box counts as four float32."""
    box = np.asarray(box_xyxy_norm, dtype="<f4").tobytes()
    return _digest(box, sample_id, annotator, phrase)


def _digest(box: bytes, sample_id: str, annotator: str, phrase: str) -> str:
    return hashlib.sha256(b"\0".join((box, f"{sample_id}\0{annotator}\0{phrase}".encode()))).hexdigest()


def select_entities(
    boxes: pa.Table,
    min_score: float = 0.5,
    min_area: float = 0.01,
    max_overlap_iou: float = 0.6,
    min_entities: int = 1,
    max_entities: int = 10,
    min_detector_score: float = 0.0,
) -> pa.Table:
    """Filter the boxes of every sample and annotator; all rows come back, with ``keep`` and the reason.

    Filters, the first that strikes is the reason: ``low_score`` (image-text score below ``min_score``, or the
    detector's below ``min_detector_score``), ``too_small`` (area of the box over the image's below ``min_area``, or
    nothing), ``overlapping`` (intersection over union with a better entity that was kept above ``max_overlap_iou``),
    ``too_many`` (beyond the best ``max_entities``). Where fewer than ``min_entities`` of a sample are left, those are
    dropped as ``too_few``. Better means a higher image-text score, then the larger box, then the lower ``box_index``.
    The paper's profile keeps 3 to 10 entities; the demo's images hold fewer.

    Args:
        boxes: rows of :data:`assets.graph.schemas.ENTITY_BOXES` in any order. A box that is there twice with the same
            phrase counts once, with its better score.
        min_score, min_area, max_overlap_iou, min_detector_score: in [0, 1].
        min_entities, max_entities: 0 or more, and at least ``min_entities`` and 1.

    Returns:
        rows of :data:`SELECTED_ENTITIES`, sorted by sample_id, annotator and from best to worst.

    Raises:
        FoundryError: a threshold out of range, or a column is missing.
    """
    fractions = {"min_score": min_score, "min_area": min_area, "max_overlap_iou": max_overlap_iou}
    _check({**fractions, "min_detector_score": min_detector_score}, min_entities, max_entities)
    require_columns(boxes, "boxes", ENTITY_BOXES.names)
    rows, starts = _best_first(boxes.select(ENTITY_BOXES.names).combine_chunks())
    corners = _corners(rows)
    areas = _areas(corners)
    # negated, so that a score or corner that is not a number drops its row
    weak = ~(_floats(rows, "name_score") >= min_score) | ~(_floats(rows, "score") >= min_detector_score)
    small = ~(areas >= min_area) | ~(areas > 0)
    reasons = np.where(weak, _LOW_SCORE, np.where(small, _TOO_SMALL, 0))
    overlaps = np.zeros(len(reasons))
    for members in _blocks(starts, len(reasons)):
        reasons[members], overlaps[members] = _suppress(
            corners[members], reasons[members], max_overlap_iou, max_entities
        )
    sizes = np.diff(np.append(starts, len(reasons)))
    kept = np.add.reduceat(reasons == 0, starts, dtype=np.int64) if len(starts) else sizes
    reasons[np.repeat(kept < min_entities, sizes) & (reasons == 0)] = _TOO_FEW
    positions = np.arange(len(reasons)) - np.repeat(starts, sizes)
    computed: dict[str, Any] = {
        "entity_index": positions.astype(np.int32),
        "area_fraction": np.nan_to_num(areas).astype(np.float32),
        "detector_score": rows["score"],
        "score": rows["name_score"],
        "overlap_iou": overlaps.astype(np.float32),
        "keep": reasons == 0,
        "dropped_because": pa.array(REASONS).take(pa.array(reasons)),
    }
    columns = [
        computed.get(name, rows[name] if name in rows.column_names else None)
        for name in SELECTED_ENTITIES.names
    ]
    return pa.table(columns, schema=SELECTED_ENTITIES)


def _check(fractions: dict[str, float], min_entities: int, max_entities: int) -> None:
    for name, value in fractions.items():
        if not 0.0 <= value <= 1.0:
            raise FoundryError(f"{name} is {value}; allowed is 0 to 1")
    if min_entities < 0:
        raise FoundryError(f"min_entities is {min_entities}; allowed is 0 or more")
    if max_entities < max(1, min_entities):
        raise FoundryError(
            f"max_entities is {max_entities}; allowed is {max(1, min_entities)} or more (min_entities is {min_entities})"
        )


def _floats(table: pa.Table, name: str) -> Float[np.ndarray, " n"]:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _corners(table: pa.Table) -> Float[np.ndarray, "n 4"]:
    flat = pc.list_flatten(table["box_xyxy_norm"]).to_numpy()
    return np.asarray(flat, dtype=np.float64).reshape(-1, 4)


def _areas(corners: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    sides = np.maximum(corners[..., 2:] - corners[..., :2], 0.0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _codes(column: pa.ChunkedArray) -> Int[np.ndarray, " n"]:
    """Numbers that sort as the strings do."""
    encoded = pc.rank(column, sort_keys="ascending", tiebreaker="dense")
    return np.asarray(encoded.to_numpy(), dtype=np.int64)


def _best_first(boxes: pa.Table) -> tuple[pa.Table, Int[np.ndarray, " g"]]:
    """Rows by sample, annotator and from best to worst, doubles left out, with entity_id; where each sample starts."""
    samples, annotators = _codes(boxes["sample_id"]), _codes(boxes["annotator"])
    areas = np.nan_to_num(_areas(_corners(boxes)))
    scores = np.nan_to_num(_floats(boxes, "name_score"), nan=-1.0)
    order = np.lexsort((boxes["box_index"].to_numpy(), -areas, -scores, annotators, samples))
    first_place: dict[str, int] = {}
    for place, identity in enumerate(_identities(boxes.take(order))):
        first_place.setdefault(identity, place)
    order = order[np.fromiter(first_place.values(), dtype=np.int64, count=len(first_place))]
    samples, annotators = samples[order], annotators[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (samples[1:] != samples[:-1]) | (annotators[1:] != annotators[:-1])
    identities = pa.array(list(first_place), pa.string())
    return boxes.take(order).append_column("entity_id", identities), np.flatnonzero(is_first)


def _identities(boxes: pa.Table) -> list[str]:
    """:func:`entity_id` of every row."""
    flat = np.ascontiguousarray(_corners(boxes), dtype="<f4").tobytes()
    return [
        _digest(flat[16 * row : 16 * row + 16], *names)
        for row, names in enumerate(
            zip(*(boxes[name].to_pylist() for name in ("sample_id", "annotator", "phrase")), strict=True)
        )
    ]


def _blocks(starts: Int[np.ndarray, " g"], num_rows: int) -> Iterator[Int[np.ndarray, "samples size"]]:
    """Row numbers of samples with equally many rows, as many at once as memory allows."""
    sizes = np.diff(np.append(starts, num_rows))
    for size in np.unique(sizes):
        chosen = starts[sizes == size]
        at_once = max(1, _PAIRS_AT_ONCE // int(size * size))
        for begin in range(0, len(chosen), at_once):
            yield chosen[begin : begin + at_once, None] + np.arange(size)


def _suppress(
    corners_sn4: Float[np.ndarray, "s n 4"],
    reasons_sn: Int[np.ndarray, "s n"],
    max_overlap_iou: float,
    max_entities: int,
) -> tuple[Int[np.ndarray, "s n"], Float[np.ndarray, "s n"]]:
    """Greedy suppression in samples of n rows, best first: reasons, and the largest IoU with a better kept row."""
    reasons, overlaps = reasons_sn.copy(), np.zeros(reasons_sn.shape)
    areas = _areas(corners_sn4)
    for row in range(reasons.shape[1]):
        if row:
            iou = _iou(corners_sn4[:, :row], corners_sn4[:, row, None], areas[:, :row], areas[:, row, None])
            overlaps[:, row] = np.where(reasons[:, :row] == 0, iou, 0.0).max(axis=1)
        alive = reasons[:, row] == 0
        hidden = overlaps[:, row] > max_overlap_iou
        full = (reasons[:, :row] == 0).sum(axis=1) >= max_entities
        reasons[alive & full, row] = _TOO_MANY
        reasons[alive & hidden, row] = _OVERLAPPING
    return reasons, overlaps


def _iou(
    first: Float[np.ndarray, "*#n 4"],
    second: Float[np.ndarray, "*#n 4"],
    first_area: Float[np.ndarray, "*#n"],
    second_area: Float[np.ndarray, "*#n"],
) -> Float[np.ndarray, "*#n"]:
    """Intersection over union, in [0, 1]; 0 where both are empty or a corner is not a number."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.maximum(sides[..., 0], 0.0) * np.maximum(sides[..., 1], 0.0)
    total = first_area + second_area - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, shared / total, 0.0)


def join_descriptions(selected: pa.Table, descriptions: pa.Table) -> pa.Table:
    """Entities with what a describer said of them, as :data:`assets.graph.schemas.ENTITY_ANNOTATIONS`.

    Rows that were dropped, and those the describer failed at, stay without a description.

    Raises:
        FoundryError: an entity has two descriptions, or a column is missing.
    """
    require_columns(selected, "selected entities", SELECTED_ENTITIES.names)
    require_columns(descriptions, "descriptions", DESCRIPTIONS.names)
    described_ids = descriptions["entity_id"].combine_chunks()
    if len(described_ids.unique()) != len(described_ids):
        raise FoundryError("descriptions table: an entity has two descriptions; pass those of one describer")
    places = pc.index_in(selected["entity_id"], value_set=described_ids)
    places = pc.if_else(selected["keep"], places, pa.scalar(None, pa.int32()))
    empty = {"description": "", "score": 0.0, "model": "", "model_digest": ""}
    found = [
        pc.fill_null(descriptions[name].take(places), pa.scalar(value, DESCRIPTIONS.field(name).type))
        for name, value in empty.items()
    ]
    columns = dict(zip(DESCRIPTION_COLUMNS, found, strict=True))
    columns |= {name: selected[name] for name in SELECTED_ENTITIES.names}
    return pa.table([columns[field.name] for field in ENTITY_ANNOTATIONS], schema=ENTITY_ANNOTATIONS)
