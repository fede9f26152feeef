"""Boxes that a detector finds in generated pictures, against the boxes that were told.

*IoU recall*: told boxes that a found box of the same label overlaps by .5 or more, paired one to one. *AP*: average precision as
COCO has it (101 recall points, greedy matching by score, mean over labels), at .5 and over .5:.05:.95; pycocotools is the
oracle of the tests. *Count*: pictures in which a label is found as often as it was told. All depend on the detector,
which is named beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from evaluation.boxes import MIN_IOU, Box, iou_matrix, match_pairs
from evaluation.intervals import Interval
from evaluation.metrics.placement import ratio_over_pictures
from training.errors import FoundryError

COCO_IOUS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
MAX_FOUND = 100
"""Best boxes of a picture and label that count, as in COCO."""
_RECALLS = np.linspace(0, 1, 101)
RESAMPLES = 200


@dataclass(frozen=True)
class LabelledBox:
    """A box of a picture (normalised xyxy) with what it is; ``score`` in [0, 1] says how surely, 1 for told boxes."""

    label: str
    box_xyxy_norm: Box
    score: float = 1.0


Boxes = Mapping[str, Sequence[LabelledBox]]
"""By picture; a picture in which nothing was found has an empty entry."""


@dataclass(frozen=True)
class BoxMetrics:
    """All three, with 95 % intervals from resampling pictures. ``count`` is over (picture, label) pairs that were told."""

    recall: Interval
    ap50: Interval
    ap: Interval
    count: Interval
    num_boxes: int
    num_pictures: int


def box_metrics(told: Boxes, found: Boxes, seed: int = 0) -> BoxMetrics:
    """Everything about found boxes against told ones.

    Raises FoundryError when nothing was told, or where a picture with told boxes was not looked at.
    """
    _check(told, found)
    return BoxMetrics(
        iou_recall(told, found, seed=seed),
        average_precision(told, found, (MIN_IOU,), seed=seed),
        average_precision(told, found, COCO_IOUS, seed=seed),
        count_accuracy(told, found, seed=seed),
        sum(len(boxes) for boxes in told.values()),
        len(told),
    )


def iou_recall(told: Boxes, found: Boxes, min_iou: float = MIN_IOU, seed: int = 0) -> Interval:
    """Share of told boxes that a found one of their label overlaps enough, paired one to one. Raises as :func:`box_metrics`."""
    _check(told, found)
    hits = []
    for picture, boxes in told.items():
        labels = {box.label for box in boxes}
        pairs = (match_pairs(_of(found[picture], name), _of(boxes, name), min_iou) for name in labels)
        hits.append(sum(len(matched) for matched in pairs))
    return ratio_over_pictures(np.array(hits), np.array([len(boxes) for boxes in told.values()]), seed)


def count_accuracy(told: Boxes, found: Boxes, seed: int = 0) -> Interval:
    """Share of told (picture, label) pairs whose label is found exactly as often. Raises as :func:`box_metrics`."""
    _check(told, found)
    right, total = [], []
    for picture, boxes in told.items():
        wanted = Counter(box.label for box in boxes)
        seen = Counter(box.label for box in found[picture])
        right.append(sum(seen[label] == count for label, count in wanted.items()))
        total.append(len(wanted))
    return ratio_over_pictures(np.array(right), np.array(total), seed)


def average_precision(
    told: Boxes, found: Boxes, min_ious: Sequence[float] = COCO_IOUS, seed: int = 0
) -> Interval:
    """Mean over labels and overlaps of COCO's average precision, with an interval from resampling pictures.

    Raises as :func:`box_metrics`.
    """
    _check(told, found)
    numbers = {picture: number for number, picture in enumerate(told)}
    wanted, seen = _by_label(told, numbers), _by_label(found, numbers)
    matched = [
        _match_label(boxes, seen.get(label, {}), len(numbers), min_ious)
        for label, boxes in sorted(wanted.items())
    ]
    count = len(numbers)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    value = float(_mean_precision(matched, np.ones((1, count)))[0])
    low, high = np.nanquantile(_mean_precision(matched, draws.astype(np.float64)), [0.025, 0.975])
    return Interval(value, float(low), float(high), 0.95, count)


@dataclass(frozen=True)
class _Matched:
    """Found boxes of a label, best first: the picture of each, whether it is a hit at each overlap; told boxes by picture."""

    picture: Int[ndarray, " n"]
    is_hit: Bool[ndarray, "ious n"]
    told: Float[ndarray, " pictures"]


_ByPicture = dict[int, list[LabelledBox]]


def _by_label(boxes: Boxes, numbers: Mapping[str, int]) -> dict[str, _ByPicture]:
    """Boxes by label, then by number of their picture, best first; pictures without a number are left out."""
    by_label: dict[str, _ByPicture] = {}
    for picture, number in numbers.items():
        for box in sorted(boxes[picture], key=lambda box: -box.score):
            by_label.setdefault(box.label, {}).setdefault(number, []).append(box)
    return by_label


def _match_label(wanted: _ByPicture, seen: _ByPicture, count: int, min_ious: Sequence[float]) -> _Matched:
    best = {number: boxes[:MAX_FOUND] for number, boxes in seen.items()}
    hits = [
        _greedy(
            [box.box_xyxy_norm for box in boxes],
            [box.box_xyxy_norm for box in wanted.get(number, ())],
            min_ious,
        )
        for number, boxes in best.items()
    ]
    scores = np.array([box.score for boxes in best.values() for box in boxes])
    order = np.argsort(-scores, kind="stable")
    owners = np.array([number for number, boxes in best.items() for _ in boxes], dtype=np.int64)
    told = np.bincount([*wanted], weights=[len(boxes) for boxes in wanted.values()], minlength=count)
    is_hit = np.concatenate([np.zeros((len(min_ious), 0), dtype=bool), *hits], axis=1)
    return _Matched(owners[order], is_hit[:, order], told)


def _greedy(
    found: Sequence[Box], wanted: Sequence[Box], min_ious: Sequence[float]
) -> Bool[ndarray, "ious n"]:
    """Each found box, best first, takes the free told box that it overlaps most; of equals the last, as COCO does."""
    is_hit = np.zeros((len(min_ious), len(found)), dtype=bool)
    if not found or not wanted:
        return is_hit
    overlaps = iou_matrix(np.array(found, dtype=np.float64), np.array(wanted, dtype=np.float64))
    for row, min_iou in enumerate(min_ious):
        is_free = np.ones(len(wanted), dtype=bool)
        for place in range(len(found)):
            free = np.where(is_free, overlaps[place], -1.0)
            best = len(free) - 1 - int(free[::-1].argmax())
            if free[best] >= min(min_iou, 1 - 1e-10):
                is_free[best], is_hit[row, place] = False, True
    return is_hit


def _mean_precision(
    matched: Sequence[_Matched], weights: Float[ndarray, "draws pictures"]
) -> Float[ndarray, " draws"]:
    """Mean over labels with a told box in the draw, and over overlaps; NaN where a draw holds none."""
    sums, labels = np.zeros(len(weights)), np.zeros(len(weights))
    for label in matched:
        told = weights @ label.told
        weight = weights[:, label.picture]
        per_overlap = [_interpolated(hit * weight, weight, told) for hit in label.is_hit]
        sums += np.where(told > 0, np.mean(per_overlap, axis=0), 0.0)
        labels += told > 0
    return np.divide(sums, labels, out=np.full(len(weights), np.nan), where=labels > 0)


def _interpolated(
    hits: Float[ndarray, "draws n"], weight: Float[ndarray, "draws n"], told: Float[ndarray, " draws"]
) -> Float[ndarray, " draws"]:
    """Mean over 101 recalls of the best precision at that recall or more; 0 beyond the recall that is reached."""
    right, given = np.cumsum(hits, axis=1), np.cumsum(weight, axis=1)
    recall = right / np.maximum(told, 1.0)[:, None]
    precision = right / np.maximum(given, np.spacing(1.0))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # A found box stands for the recalls that are first reached with it.
    reached = np.searchsorted(_RECALLS, recall, side="right")
    return (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(_RECALLS)


def _of(boxes: Sequence[LabelledBox], label: str) -> list[Box]:
    return [box.box_xyxy_norm for box in boxes if box.label == label]


def _check(told: Boxes, found: Boxes) -> None:
    missing = sorted(set(told) - set(found))
    if missing or not any(told.values()):
        what = f"no entry of picture {missing[0]}" if missing else "no told box"
        raise FoundryError(
            f"box metrics: found {what}; look at every picture, and tell at least one box. A picture in which nothing was "
            "found has an empty entry."
        )
