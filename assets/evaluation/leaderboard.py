"""Views of the long table of scores: a row a model, a column a metric, only what was measured alike side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from assets.pages.tables import Cell, Column, Entry, Table
from evaluation.intervals import Interval
from evaluation.metrics.metric import ALL_SPLITS, Metric

RANKED_BY = "judge_cosine"
MODELS_SHOWN = 24
OTHER = "other protocol"
Model = tuple[str, str]
Scores = dict[Model, dict[str, tuple[Interval, str]]]
"""By kind and recipe, by metric: the value, and the digest of its protocol."""


def scores_of_models(table: pa.Table, split: str = ALL_SPLITS) -> Scores:
    """The rows of :data:`evaluation.tables.scores.MODEL_SCORES` of one split, model by model."""
    found: Scores = {}
    for row in table.to_pylist():
        if row["split"] == split:
            value = Interval(row["value"], row["low"], row["high"], count=row["n"])
            model = found.setdefault((row["kind"], row["recipe"]), {})
            model[row["metric"]] = (value, row["protocol_digest"])
    return found


def usual_protocols(scores: Scores) -> dict[str, str]:
    """By metric, the protocol that most models were measured by."""
    counted: dict[str, Counter[str]] = {}
    for model in scores.values():
        for metric, (_, protocol) in model.items():
            counted.setdefault(metric, Counter())[protocol] += 1
    return {metric: protocols.most_common(1)[0][0] for metric, protocols in counted.items()}


def ranked(scores: Scores, metric: Metric) -> list[Model]:
    """Models from best to worst by one metric; behind them those that were measured otherwise, and those that were not."""
    usual = usual_protocols(scores).get(metric.name)
    sign = -1.0 if metric.better == "up" else 1.0

    def place(model: Model) -> tuple[bool, float, Model]:
        value, protocol = scores[model].get(metric.name, (None, ""))
        return protocol != usual, sign * value.value if value is not None else 0.0, model

    return sorted(scores, key=place)


def leaderboard(table: pa.Table, metrics: Sequence[Metric]) -> Table:
    """Models with their metrics and 95 % intervals, best judge's cosine first."""
    scores = scores_of_models(table)
    usual = usual_protocols(scores)
    shown = [metric for metric in metrics if metric.name in usual]
    arrow = {"up": "more is better", "down": "less is better"}
    columns = [
        Column("Model"),
        Column("Kind"),
        *(Column(metric.title, ",.3f", note=f"95 %, {arrow[metric.better]}") for metric in shown),
    ]
    by = next((metric for metric in metrics if metric.name == RANKED_BY), metrics[0])
    rows: list[list[Entry]] = []
    for model in ranked(scores, by):
        cells = [_cell(scores, model, metric, usual) for metric in shown]
        rows.append([model[1], model[0], *cells])
    return Table(columns, rows)


def leaderboard_picture(table: pa.Table, metrics: Sequence[Metric]) -> bytes | None:
    """Bars of the judge's cosine of models that were measured alike, best first, as PNG bytes; None without any."""
    from evaluation.plots.basic import bars

    scores = scores_of_models(table)
    by = next((metric for metric in metrics if metric.name == RANKED_BY), metrics[0])
    usual = usual_protocols(scores).get(by.name)
    alike = [model for model in ranked(scores, by) if scores[model].get(by.name, (None, ""))[1] == usual]
    values = {recipe if kind == "backbone" else f"{recipe} ({_short(kind)})": scores[kind, recipe][by.name][0]
              for kind, recipe in alike[:MODELS_SHOWN]}  # fmt: skip
    return bars(values, title=f"{by.title}, all kinds of models", x_label=by.scale) if values else None


def _cell(scores: Scores, model: Model, metric: Metric, usual: dict[str, str]) -> Entry:
    found = scores[model].get(metric.name)
    if found is None:
        return None
    value, protocol = found
    is_own = "reference" in metric.needs  # held beside the model's own parent: there is no usual one
    return value if protocol == usual[metric.name] or is_own else Cell(value, below=OTHER)


def _short(kind: str) -> str:
    return kind.removesuffix("_backbone").replace("_", " ")
