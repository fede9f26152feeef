"""Swept models as something that can be scored: by what was read in the sweep's own pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from assets.evaluation.model_scores import ScoredModel
from assets.graph.interfaces import Store
from assets.writing.lora_recipes import LAYERS
from evaluation.localization.rows import CHOSEN
from evaluation.localization.runs import TARGET
from evaluation.metrics.asked_words import AskedWords
from evaluation.metrics.metric import Evidence
from training.digests import canonical_json, sha256_bytes

READINGS = "text_layer_readings"


def swept_models(store: Store) -> Iterator[ScoredModel]:
    """Every model whose sweep is stored and looked at what is published now."""
    for key in store.partitions(LAYERS):
        sweep, readings = store.read_table(LAYERS, key).to_pylist()[0], store.read_table(READINGS, key)
        kind, model, digest = sweep["kind"], sweep["model"], sweep["model_digest"]
        manifest = store.current(kind, model)
        if manifest is None or manifest.digest != digest:
            continue
        asked = readings.select(["run", "pair_index", "prompt", "word", "seed"]).to_pylist()
        sampling = {name: sweep[name] for name in ("num_steps", "guidance", "start", "read_by")}
        settings = {"words": {"asked": sha256_bytes(canonical_json(asked).encode()), **sampling}}
        yield ScoredModel(kind, model, digest, settings, partial(_evidence, readings))


def _evidence(readings: pa.Table) -> Evidence:
    words = asked_words(readings)
    return Evidence({"words": lambda: words, "prompt_splits": lambda: ("",) * len(words.words)})


def asked_words(readings: pa.Table) -> AskedWords:
    """What a stored sweep read, pair by pair."""
    rows = readings.sort_by("pair_index").to_pylist()
    target, patched = ([row for row in rows if row["run"] == run] for run in (TARGET, CHOSEN))
    return AskedWords(
        [row["word"] for row in target], [row["read"] for row in target], [row["read"] for row in patched]
    )
