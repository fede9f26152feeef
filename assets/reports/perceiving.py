"""Scores of what looks at pictures: perception against the hidden truth, the judge on real held-out pictures.

This is the one module that reads the truth table, and it only scores.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.encodings.assembly import HELD_OUT
from assets.interfaces import Store
from assets.models.judging import decoded, held_out_pairs
from evaluation.intervals import Interval, mean_interval

MEASURES = pa.schema(
    [
        pa.field("measure", pa.string(), False, {"description": "what was measured"}),
        pa.field("split", pa.string(), False, {"description": "on which samples"}),
        pa.field("value", pa.float64(), True, {"description": "the figure, empty where it cannot be known"}),
        pa.field("low", pa.float64(), True, {"description": "lower end of the 95 % interval"}),
        pa.field("high", pa.float64(), True, {"description": "upper end of the 95 % interval"}),
        pa.field("num_items", pa.int64(), True, {"description": "independent items behind the figure"}),
        pa.field("chance", pa.float64(), True, {"description": "what guessing gets"}),
        pa.field("oracle", pa.float64(), True, {"description": "what a perfect answer gets"}),
        pa.field("remark", pa.string(), False, {"description": "how to read it"}),
    ]
)
SWAPPED = "right text over one with an object swapped"


def measure(
    name: str,
    split: str,
    value: Interval | None,
    *,
    chance: float | None = None,
    oracle: float | None = None,
    remark: str = "",
) -> dict[str, Any]:
    """One row of :data:`MEASURES`."""
    return {
        "measure": name,
        "split": split,
        "value": None if value is None else value.value,
        "low": None if value is None else value.low,
        "high": None if value is None else value.high,
        "num_items": None if value is None else value.count,
        "chance": chance,
        "oracle": oracle,
        "remark": remark,
    }


def judge_scores_table(store: Store, k: int) -> pa.Table:
    """How well the judge does on real held-out pictures, by split: the ceiling behind every alignment score.

    Telling right from swapped texts needs the truth table; without it that measure reads unknown.
    """
    from evaluation.judge import Judge, separation, swap_questions
    from evaluation.metrics.alignment import score_pairs

    judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
    truth = _truth(store)
    names = sorted({name for drawn in truth.values() for name in drawn})
    pairs, rows = held_out_pairs(store), []
    for split in HELD_OUT:
        samples = pairs.filter(pc.equal(pairs["split"], split))
        texts = samples["alt_text"].to_pylist()
        if len(set(texts)) < k:
            rows.append(measure(f"top-1 of {k} alt-texts", split, None, remark="too few held-out samples"))
            continue
        images = decoded(samples)
        top1 = score_pairs(judge.embed_images(images), judge.embed_texts(texts), texts, k).top1_of_k
        rows.append(measure(f"top-1 of {k} alt-texts", split, mean_interval(top1), chance=1 / k, oracle=1.0))
        drawn = [truth.get(sample_id, []) for sample_id in samples["sample_id"].to_pylist()]
        if not all(drawn):
            rows.append(measure(SWAPPED, split, None, chance=0.5, oracle=1.0, remark="no truth table"))
            continue
        told = separation(judge, images, swap_questions(drawn, names))
        rows.append(measure(SWAPPED, split, told.accuracy, chance=0.5, oracle=1.0))
        rows.append(
            measure("area under the curve, right over swapped", split, told.area, chance=0.5, oracle=1.0)
        )
    return pa.Table.from_pylist(rows, schema=MEASURES)


def perception_scores_table(store: Store, held_out_names: Collection[str]) -> pa.Table:
    """Perception against the hidden truth beside chance and oracle, by group of concepts, as :data:`MEASURES`.

    Without a truth table every figure is empty: unknown, not zero.
    """
    from evaluation.metrics.perception_scores import METRICS, perception_scores

    if store.current("scene_truth") is None:
        rows = [
            measure(name, "all", None, remark=f"{about}; no truth table") for name, about in METRICS.items()
        ]
        return pa.Table.from_pylist(rows, schema=MEASURES)
    scores = perception_scores(
        store.read_all("regions"),
        store.read_table("scene_truth"),
        store.read_all("recaptions"),
        held_out_names,
    )
    by_key = {(row["metric"], row["group"], row["system"]): row for row in scores.to_pylist()}
    rows = []
    for (metric, group, system), row in by_key.items():
        if system != "perceived":
            continue
        value = None
        if row["value"] is not None:
            value = Interval(row["value"], row["low"], row["high"], count=row["num_images"])
        chance, oracle = (by_key[(metric, group, other)]["value"] for other in ("chance", "oracle"))
        rows.append(measure(metric, group, value, chance=chance, oracle=oracle, remark=row["about"]))
    return pa.Table.from_pylist(rows, schema=MEASURES)


def _truth(store: Store) -> dict[str, list[str]]:
    """Names of what was drawn, by sample id; empty where there is no truth table."""
    if store.current("scene_truth") is None:
        return {}
    table = store.read_table("scene_truth", columns=["sample_id", "objects"])
    return {row["sample_id"]: [item["name"] for item in row["objects"]] for row in table.to_pylist()}
