"""How far two annotators agree, where nobody knows the truth: boxes, their overlap, and what they call them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa

from evaluation.boxes import match_pairs
from evaluation.intervals import Interval
from evaluation.metrics.entity_scores import Entities, entities_by_annotator, read_entities
from evaluation.metrics.grouped_counts import ratio_intervals


@dataclass(frozen=True)
class Agreement:
    """Two annotators, in either order the same figures.

    ``box_f1``: twice the matched boxes over all boxes of both (IoU at least 0.5). ``mean_iou`` of the matched.
    ``label_agreement``: matched boxes with the same label; ``label_kappa`` the same beyond chance (Cohen), 1 is full
    agreement and 0 what independent labels would give. None where nothing matched.
    """

    first: str
    second: str
    box_f1: Interval | None
    mean_iou: Interval | None
    label_agreement: Interval | None
    label_kappa: float | None
    num_images: int
    num_matched: int


def annotator_agreement(
    boxes: pa.Table,
    label_of: Callable[[str], str],
    sample_ids: Collection[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Agreement]:
    """Agreement of every two annotators in ``boxes``; none for fewer than two.

    Args:
        boxes: columns sample_id, annotator, phrase and box_xyxy_norm, of
            :data:`assets.graph.schemas.ENTITY_BOXES`.
        label_of: phrase -> what is compared, such as its head noun.
        sample_ids: images that count; those with a box of either when left out.
    """
    said = {name: read_entities(rows) for name, rows in entities_by_annotator(boxes).items()}
    answer = []
    for first, second in combinations(said, 2):
        known = set(said[first]) | set(said[second])
        chosen = sorted(known if sample_ids is None else known & set(sample_ids))
        pairs = [(said[first].get(name, ()), said[second].get(name, ())) for name in chosen]
        answer.append(compare(first, second, pairs, label_of, resamples=resamples, seed=seed))
    return answer


def compare(
    first: str,
    second: str,
    pairs: Sequence[tuple[Entities, Entities]],
    label_of: Callable[[str], str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Agreement of two annotators over images; ``pairs`` holds what each said of an image."""
    counts = np.zeros((len(pairs), 3, 2))
    labels: list[tuple[str, str]] = []
    for row, (one, other) in enumerate(pairs):
        matched = match_pairs([entity.box for entity in one], [entity.box for entity in other])
        same = [(label_of(one[left].phrase), label_of(other[right].phrase)) for left, right, _ in matched]
        labels += same
        counts[row, 0] = 2 * len(matched), len(one) + len(other)
        counts[row, 1] = sum(iou for *_, iou in matched), len(matched)
        counts[row, 2] = sum(left == right for left, right in same), len(matched)
    box_f1, mean_iou, label = (
        None
        if value is None or low is None or high is None
        else Interval(value, low, high, count=int((counts[:, index, 1] > 0).sum()))
        for index, (value, low, high) in enumerate(ratio_intervals(counts, resamples, seed))
    )
    return Agreement(first, second, box_f1, mean_iou, label, cohens_kappa(labels), len(pairs), len(labels))


def cohens_kappa(labels: Sequence[tuple[str, str]]) -> float | None:
    """(observed - expected) / (1 - expected) agreement of paired labels; None for none, or where one label is all."""
    if not labels:
        return None
    observed = sum(one == other for one, other in labels) / len(labels)
    ones, others = Counter(one for one, _ in labels), Counter(other for _, other in labels)
    expected = sum(ones[label] * others[label] for label in ones) / len(labels) ** 2
    return None if expected >= 1.0 else (observed - expected) / (1.0 - expected)
