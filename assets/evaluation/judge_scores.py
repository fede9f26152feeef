"""What the judge can do on real held-out pictures. It reads the truth table, and only scores with it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from assets.encodings.assembly import HELD_OUT
from assets.graph.interfaces import Store
from assets.models.judging import decoded, held_out_pairs
from assets.pages.measures import MEASURES, measure
from evaluation.intervals import mean_interval
from evaluation.metrics.scene_truth import TRUTH_COLUMNS, read_truth

SWAPPED = "right text over one with an object swapped"


def judge_scores_table(store: Store, k: int) -> pa.Table:
    """How well the judge does on real held-out pictures, by split: the ceiling behind every alignment score.

    Telling right from swapped texts needs the truth table; without it that measure reads unknown.
    """
    from evaluation.judge import Judge, separation, swap_questions
    from evaluation.metrics.alignment import score_pairs

    judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
    truth = _truth(store)
    phrases = sorted({phrase for drawn in truth.values() for phrase in drawn})
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
        told = separation(judge, images, swap_questions(drawn, phrases))
        rows.append(measure(SWAPPED, split, told.accuracy, chance=0.5, oracle=1.0))
        rows.append(
            measure("area under the curve, right over swapped", split, told.area, chance=0.5, oracle=1.0)
        )
    return pa.Table.from_pylist(rows, schema=MEASURES)


def _truth(store: Store) -> dict[str, list[str]]:
    """What was drawn, in words, by sample id; empty where there is no truth table."""
    if store.current("scene_truth") is None:
        return {}
    truth = read_truth(store.read_table("scene_truth", columns=list(TRUTH_COLUMNS)))
    return {sample_id: [look.phrase for look in scene.looks] for sample_id, scene in truth.items()}
