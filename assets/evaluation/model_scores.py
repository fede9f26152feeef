"""The long table of scores: a row a model, metric and split. What was measured by the same protocol is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from evaluation.metrics.metric import Evidence, Metric, Settings, measured, protocol_digest, protocol_of
from evaluation.tables.scores import MODEL_SCORES
from training.digests import canonical_json

Log = Callable[[str], None]


@dataclass(frozen=True)
class ScoredModel:
    """A published model and what can be known of it.

    ``settings``: how each need of a metric is met, by need; a metric whose needs are not among them is left out.
    ``evidence`` is called only where a metric has to be measured. ``only``: names of the metrics that are known, where that
    is not what the needs say.
    """

    kind: str
    recipe: str
    digest: str
    settings: Settings
    evidence: Callable[[], Evidence]
    only: Collection[str] | None = None

    def takes(self, metric: Metric) -> bool:
        """Whether a metric can be told of this model."""
        return set(metric.needs) <= set(self.settings) and (self.only is None or metric.name in self.only)


def score_models(
    scored: Iterable[ScoredModel], metrics: Sequence[Metric], previous: pa.Table | None, log: Log
) -> pa.Table:
    """Rows of :data:`evaluation.tables.scores.MODEL_SCORES` of every model and metric.

    Rows of ``previous`` with the same model, metric and protocol are kept; models that are gone leave the table.
    """
    kept = _by_key(previous)
    rows: list[Mapping[str, Any]] = []
    for model in scored:
        made: Evidence | None = None
        for metric in metrics:
            if not model.takes(metric):
                continue
            protocol = protocol_of(metric, model.settings)
            key = (model.kind, model.recipe, model.digest, metric.name, protocol_digest(protocol))
            if key not in kept:
                made = made if made is not None else model.evidence()
                log(f"{model.kind} {model.recipe}: measuring {metric.title}")
                kept[key] = _measure(model, metric, protocol, made)
            rows += kept[key]
    return pa.Table.from_pylist([dict(row) for row in rows], schema=MODEL_SCORES)


def _by_key(previous: pa.Table | None) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    kept: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    if previous is None or previous.schema.names != MODEL_SCORES.names:
        return kept
    names = ("kind", "recipe", "model_digest", "metric", "protocol_digest")
    for row in previous.to_pylist():
        kept.setdefault(tuple(row[name] for name in names), []).append(row)
    return kept


def _measure(
    model: ScoredModel, metric: Metric, protocol: dict[str, Any], evidence: Evidence
) -> list[Mapping[str, Any]]:
    found = measured(metric, evidence)
    whole = {
        "kind": model.kind,
        "recipe": model.recipe,
        "metric": metric.name,
        "unit": metric.unit,
        "scale": metric.scale,
        "better": metric.better,
        "model_digest": model.digest,
        "protocol_digest": protocol_digest(protocol),
        "protocol": canonical_json(protocol),
    }
    return [
        {
            **whole,
            "split": split,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "n": interval.count or found.count_of(split),
            "by_unit": found.values_of(split),
        }
        for split, interval in found.intervals.items()
    ]
