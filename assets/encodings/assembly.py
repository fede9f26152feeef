"""From tables to the one dataset that models depend on: captions joined, splits kept apart, the gate applied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.encodings.concept_ranks import concept_ranks
from assets.encodings.text import distinct_texts, text_id
from assets.graph.interfaces import Store
from assets.graph.versions import GateResult
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.shards import SamplePart, TextRows

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


def read_tables(store: Store) -> DatasetTables:
    """The newest versions of all groups, with the columns that a dataset is put together from."""
    return DatasetTables(
        landed=store.read_all("landed_images", ["sample_id", "alt_text"]),
        curated=store.read_all("curated_images"),
        recaptions=store.read_all("recaptions", ["sample_id", "caption_index", "caption", "keep"]),
        embeddings=store.read_all(
            "text_embeddings", ["text_id", "num_tokens", "states", "pooled", "model_digest"]
        ),
        latents=store.read_all("image_latents"),
        nouns=store.read_all("caption_nouns", ["text_id", "nouns"]),
    )


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
    autoencoder_digest: str,
    text_encoder_digest: str,
    max_tokens: int,
    store_states: bool = True,
    raw: bool = False,
) -> dict[str, Any]:
    """Write the training shards into ``folder`` and return counts.

    Samples lie at every resolution that their latents have. Without ``store_states`` the captions' words alone are
    written, to be encoded while training. Raises FoundryError when nothing is usable or a caption has no embedding.
    """
    from training.shards import write_training_parts

    samples, left_out = usable_samples(tables, raw=raw)
    if samples.num_rows == 0:
        raise FoundryError(
            "No sample is usable for training: none passed curation and has a latent. "
            "Look at dropped_because on curated_images, and materialize image_latents for every group."
        )
    captions = captions_by_sample(samples, tables.recaptions)
    listed = (
        samples.select(["sample_id", "split", "curated"])
        .append_column("captions", pa.array(captions, pa.list_(pa.string())))
        .append_column("concept_rank", pa.array(concept_ranks(samples, captions, tables.nouns), pa.int32()))
    )
    numbers = distinct_texts(caption for row in captions for caption in row)
    texts = _text_rows(numbers, tables.embeddings if store_states else None)
    description = write_training_parts(
        folder,
        _parts(listed, captions, texts, list(numbers), tables.latents),
        null_text=texts.take(np.array([0])),
        autoencoder_digest=autoencoder_digest,
        text_encoder_digest=text_encoder_digest,
        max_tokens=max_tokens,
    )
    counts = samples["split"].value_counts().to_pylist()
    return {
        "num_samples": samples.num_rows,
        "num_captions": sum(len(row) for row in captions),
        "num_texts": len(texts),
        "num_shards": len(description.shards),
        "latent_shapes": [list(shape) for shape in description.latent_shapes],
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


def _text_rows(texts: dict[str, str], embeddings: pa.Table | None) -> TextRows:
    """The texts (the empty one first) with their states, where there are embeddings."""
    from training.shards import TextRows

    words = list(texts.values())
    if embeddings is None:
        return TextRows(words)
    rows = {key: row for row, key in enumerate(embeddings["text_id"].to_pylist())}
    missing = next((key for key in texts if key not in rows), None)
    if missing is not None:
        raise FoundryError(
            f"The caption {texts[missing][:60]!r} has no embedding. Materialize text_embeddings for its shard group first."
        )
    chosen = embeddings.take(pa.array([rows[key] for key in texts]))
    columns = (chosen[name].to_pylist() for name in ("states", "pooled", "num_tokens"))
    states, pooled, lengths = zip(*zip(*columns, strict=True), strict=True)
    width = len(states[0]) // (2 * lengths[0])
    return TextRows(
        words,
        np.array(lengths, np.int32),
        np.concatenate([np.frombuffer(rows, np.float16).reshape(-1, width) for rows in states]),
        np.stack([np.frombuffer(vector, np.float16) for vector in pooled]),
    )


def _parts(
    samples: pa.Table, captions: list[list[str]], texts: TextRows, text_ids: list[str], latents: pa.Table
) -> Iterator[SamplePart]:
    """The samples of each resolution and latent shape, in order of sample id."""
    from training.shards import SamplePart

    position = {key: number for number, key in enumerate(text_ids)}
    row_of = {name: row for row, name in enumerate(samples["sample_id"].to_pylist())}
    kinds: dict[tuple[int, int, int], list[tuple[int, bytes]]] = defaultdict(list)
    columns = (latents[name].to_pylist() for name in ("sample_id", "resolution", "height", "width", "latent"))
    for name, *kind, latent in zip(*columns, strict=True):
        if name in row_of:
            kinds[kind[0], kind[1], kind[2]].append((row_of[name], latent))
    for (resolution, height, width), found in sorted(kinds.items()):
        found.sort(key=lambda entry: entry[0])
        rows = [row for row, _ in found]
        own = [captions[row] for row in rows]
        yield SamplePart(
            samples.take(pa.array(rows)),
            np.stack([np.frombuffer(data, np.float16).reshape(-1, height, width) for _, data in found]),
            np.concatenate([[0], np.cumsum([len(row) for row in own])]).astype(np.int64),
            np.array([position[text_id(caption)] for row in own for caption in row], np.int64),
            texts,
            resolution,
        )


def refuse_stale(table: pa.Table, name: str, wanted: set[str], what: str) -> None:
    """Refuse rows that were made by another model, or at other sizes, than today's.

    Raises FoundryError naming the table, what its rows were to be made by, and the remedy.
    """
    found = set(pc.unique(table["model_digest"]).to_pylist())
    stale = found - wanted
    if stale or len(wanted) > 1:
        other = min(stale) if stale else max(wanted)
        raise FoundryError(
            f"{name}: rows were made by {other[:12]}…, wanted is {what} {min(wanted)[:12]}… in all shard groups. "
            f"Materialize {name} for every group with the same settings, then training_shards again."
        )
