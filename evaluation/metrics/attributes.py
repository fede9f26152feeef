"""Colours, shapes and textures that descriptions name, against what is measured on the clean drawings.

What counts as right is the same measurement that perception makes, on the concept's whole drawing instead of on what
a scene shows of it. The figure so says what hiding, scaling and describing cost, not whether people would use the word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from evaluation.metrics.entity_scores import Entity, matched_objects, read_entities
from evaluation.metrics.grouped_counts import GROUPS, Score, in_group, scores_table, summarise
from evaluation.metrics.scene_truth import Truth, read_truth

Attributes = Mapping[str, str]
"""Kind of attribute (color, shape, texture) -> word."""


def stated(text: str, words: Collection[str]) -> str:
    """The first of ``words`` that stands in the text; empty where none does. Grey is gray."""
    for word in re.findall(r"[a-z]+", text.lower()):
        plain = word.replace("grey", "gray")
        if plain in words:
            return plain
    return ""


def attribute_scores(
    annotations: pa.Table,
    truth: pa.Table,
    drawn: Mapping[str, Attributes],
    vocabulary: Mapping[str, Collection[str]],
    held_out_names: Collection[str] = (),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pa.Table:
    """Accuracy of each kind of attribute, and how often one is stated, as rows of SCORES.

    Only entities whose box matches an object count. Chance draws what is stated and what is true independently, each
    as often as it occurs in the group; the oracle is 1 by definition.

    Args:
        annotations: kept entities: columns sample_id, phrase, description and box_xyxy_norm.
        truth: rows of the truth table.
        drawn: attributes measured on clean drawings, by the concept's name, or by name and colour ("heart/red")
            where a concept has several.
        vocabulary: kind of attribute -> the words for it.
        held_out_names: concepts that training never shows.
    """
    known = read_truth(truth)
    pairs = {
        sample_id: (known[sample_id], matched_objects(entities, known[sample_id])[1])
        for sample_id, entities in sorted(read_entities(annotations).items())
        if sample_id in known
    }
    metrics = _metrics(vocabulary)
    scores: list[Score] = []
    for group in GROUPS:
        only = frozenset(held_out_names) if group == "held_out_concepts" else None
        inside = [entry for entry in pairs.values() if in_group(entry[0], group, held_out_names)]
        compared = [_compared(item, matched, drawn, vocabulary, only) for item, matched in inside]
        counts = np.array([_counts(entry, vocabulary) for entry in compared], dtype=np.float64)
        scores += summarise(counts.reshape(-1, len(metrics), 2), metrics, group, "perceived", resamples, seed)
        scores += _references(compared, metrics, group)
    return scores_table(scores)


def _metrics(vocabulary: Mapping[str, Collection[str]]) -> dict[str, str]:
    accuracy = {f"{kind}_accuracy": f"stated {kind}s that are the drawing's own" for kind in vocabulary}
    share = {f"{kind}_stated": f"matched entities whose description states a {kind}" for kind in vocabulary}
    return accuracy | share


_Compared = dict[str, list[tuple[str, str]]]
"""Kind -> (stated or empty, true) of each matched entity."""


def _compared(
    truth: Truth,
    matched: Sequence[tuple[Entity, int, float]],
    drawn: Mapping[str, Attributes],
    vocabulary: Mapping[str, Collection[str]],
    only: frozenset[str] | None,
) -> _Compared:
    answer: _Compared = {kind: [] for kind in vocabulary}
    for entity, index, _ in matched:
        name = truth.objects[index][0]
        attributes = _drawn(truth, index, drawn)
        if attributes is None or (only is not None and name not in only):
            continue
        for kind, words in vocabulary.items():
            said = stated(entity.description, words) or stated(entity.phrase, words)
            answer[kind].append((said, attributes[kind]))
    return answer


def _drawn(truth: Truth, index: int, drawn: Mapping[str, Attributes]) -> Attributes | None:
    """What was measured on the drawing that an object shows."""
    name = truth.objects[index][0]
    color = truth.looks[index].color if truth.looks else ""
    return drawn.get(f"{name}/{color}", drawn.get(name))


def _counts(compared: _Compared, vocabulary: Mapping[str, Collection[str]]) -> list[tuple[int, int]]:
    """(numerator, denominator) of all accuracies, then of all shares, for one image."""
    right = [sum(said == true for said, true in compared[kind]) for kind in vocabulary]
    given = [sum(bool(said) for said, _ in compared[kind]) for kind in vocabulary]
    total = [len(compared[kind]) for kind in vocabulary]
    return [*zip(right, given, strict=True), *zip(given, total, strict=True)]


def _references(compared: Sequence[_Compared], metrics: Mapping[str, str], group: str) -> list[Score]:
    """Chance and oracle of the accuracies; how often something is stated has neither."""
    scores = []
    for metric, about in metrics.items():
        if not metric.endswith("_accuracy"):
            continue
        kind = metric.removesuffix("_accuracy")
        both = [(said, true) for entry in compared for said, true in entry[kind] if said]
        said, true = Counter(said for said, _ in both), Counter(true for _, true in both)
        chance = sum(said[word] * true[word] for word in said) / len(both) ** 2 if both else None
        for system, value in (("chance", chance), ("oracle", 1.0 if both else None)):
            scores.append(Score(metric, about, group, system, value, value, value, len(compared), len(both)))
    return scores
