"""From tables to the one dataset that models depend on: captions joined, splits kept apart, the gate applied."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.encodings.concepts import concept_ranks
from assets.encodings.text import text_id
from assets.interfaces import GateResult
from training.errors import FoundryError

HELD_OUT = ("held_out_images", "held_out_concepts")


@dataclass(frozen=True)
class DatasetTables:
    """The tables that a dataset is put together from, all partitions of each."""

    landed: pa.Table
    curated: pa.Table
    recaptions: pa.Table
    embeddings: pa.Table
    latents: pa.Table
    nouns: pa.Table


def usable_samples(tables: DatasetTables, *, raw: bool = False) -> tuple[pa.Table, dict[str, int]]:
    """Samples for training and its evaluation (sample_id, split, curated, alt_text) by sample id, and how many were
    left out.

    Copies, and leaks of held-out pictures into training, that lie in different shard groups are only found here,
    where all groups meet: held-out splits stand first, the copy elsewhere goes. ``raw`` adds the training samples
    that curation dropped, never one that shows a picture of another split.
    """
    from assets.corpus.curation import leaks_into_training, mark_duplicates

    before = tables.curated.filter(tables.curated["keep"])
    marked = mark_duplicates(tables.curated)
    wanted = pc.and_(marked["keep"], pc.not_equal(marked["split"], "judge"))
    if raw:
        in_training = np.array(marked["split"].to_pylist()) == "train"
        in_training[leaks_into_training(marked)] = False
        wanted = pc.or_(wanted, pa.array(in_training))
    kept = marked.filter(wanted).rename_columns({"keep": "curated"})
    rows = kept.select(["sample_id", "split", "curated"]).join(tables.landed, "sample_id", join_type="inner")
    with_latent = rows.filter(
        pc.is_in(rows["sample_id"], value_set=tables.latents["sample_id"].combine_chunks())
    )
    left_out = {
        "without_latent": rows.num_rows - with_latent.num_rows,
        "copies_across_groups": before.num_rows - int(pc.sum(marked["keep"]).as_py() or 0),
    }
    return with_latent.sort_by("sample_id"), left_out


def captions_by_sample(samples: pa.Table, recaptions: pa.Table) -> list[list[str]]:
    """All captions of each sample: the original alt-text first, then the generated ones that were kept, best first."""
    generated: dict[str, list[tuple[int, str]]] = defaultdict(list)
    recaptions = recaptions.filter(recaptions["keep"])
    columns = (recaptions[name].to_pylist() for name in ("sample_id", "caption_index", "caption"))
    for sample_id, index, caption in zip(*columns, strict=True):
        generated[sample_id].append((index, caption))
    pairs = zip(samples["sample_id"].to_pylist(), samples["alt_text"].to_pylist(), strict=True)
    return [
        [alt_text, *(caption for _, caption in sorted(generated[sample_id]))] for sample_id, alt_text in pairs
    ]


def write_dataset(
    folder: Path,
    tables: DatasetTables,
    *,
    latent_shape: tuple[int, int, int],
    text_dim: int,
    autoencoder_digest: str,
    text_encoder_digest: str,
    raw: bool = False,
) -> dict[str, Any]:
    """Write the training shards into ``folder`` and return counts. Raises FoundryError when nothing is usable."""
    from training.shards import write_training_shards

    samples, left_out = usable_samples(tables, raw=raw)
    if samples.num_rows == 0:
        raise FoundryError(
            "No sample is usable for training: none passed curation and has a latent. "
            "Look at dropped_because on curated_images, and materialize image_latents for every group."
        )
    captions = captions_by_sample(samples, tables.recaptions)
    texts = _text_arrays(tables.embeddings, text_dim)
    index = np.array([texts.position(caption) for row in captions for caption in row], np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in captions])]).astype(np.int64)
    write_training_shards(
        folder,
        samples.select(["sample_id", "split", "curated"])
        .append_column("captions", pa.array(captions, pa.list_(pa.string())))
        .append_column("concept_rank", pa.array(concept_ranks(samples, captions, tables.nouns), pa.int32())),
        _latent_array(samples, tables.latents, latent_shape),
        offsets,
        index,
        texts.states,
        texts.lengths,
        texts.pooled,
        null_text_index=texts.position(""),
        autoencoder_digest=autoencoder_digest,
        text_encoder_digest=text_encoder_digest,
    )
    counts = samples["split"].value_counts().to_pylist()
    return {
        "num_samples": samples.num_rows,
        "num_captions": len(index),
        "num_texts": len(texts.lengths),
        "splits": {entry["values"]: entry["counts"] for entry in counts},
        "dropped_by_curation": samples.num_rows - int(pc.sum(samples["curated"]).as_py()),
        **left_out,
    }


def gate_of(counts: dict[str, Any], min_train_samples: int) -> GateResult:
    """The gate between data and training: enough samples, each with captions and a latent, no copies of held-out ones."""
    train = counts["splits"].get("train", 0) - counts["dropped_by_curation"]
    captions_per_sample = counts["num_captions"] / counts["num_samples"]
    findings = {
        "train_samples": train,
        "min_train_samples": min_train_samples,
        "captions_per_sample": round(captions_per_sample, 3),
        "copies_across_groups_removed": counts["copies_across_groups"],
        "samples_without_latent": counts["without_latent"],
    }
    return GateResult(train >= min_train_samples and counts["without_latent"] == 0, findings)


@dataclass(frozen=True)
class _Texts:
    rows: dict[str, int]
    states: np.ndarray
    lengths: np.ndarray
    pooled: np.ndarray

    def position(self, caption: str) -> int:
        key = text_id(caption)
        if key not in self.rows:
            raise FoundryError(
                f"The caption {caption[:60]!r} has no embedding. Materialize text_embeddings for its shard group first."
            )
        return self.rows[key]


def _text_arrays(embeddings: pa.Table, text_dim: int) -> _Texts:
    rows: dict[str, int] = {}
    states, pooled = [], []
    columns = (embeddings[name].to_pylist() for name in ("text_id", "states", "pooled"))
    for key, state, pool in zip(*columns, strict=True):
        if key not in rows:
            rows[key] = len(rows)
            states.append(np.frombuffer(state, np.float16).reshape(-1, text_dim))
            pooled.append(np.frombuffer(pool, np.float16))
    lengths = np.array([len(state) for state in states], np.int32)
    return _Texts(rows, np.concatenate(states), lengths, np.stack(pooled))


def _latent_array(samples: pa.Table, latents: pa.Table, shape: tuple[int, int, int]) -> np.ndarray:
    by_id = dict(zip(latents["sample_id"].to_pylist(), latents["latent"].to_pylist(), strict=True))
    return np.stack(
        [np.frombuffer(by_id[key], np.float16).reshape(shape) for key in samples["sample_id"].to_pylist()]
    )
