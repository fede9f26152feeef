"""The layout benchmark: prompts with boxes in the manner of LayoutSAM-Eval, held out by concept, checked for leaks.

A prompt is a held-out sample's caption with its kept entities. Colour, texture and shape are what the description
names; the place is what the box says. Which concepts training never shows is either declared by the source (its
held-out names) or measured: a concept is held out when no training caption mentions it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.corpus.curation import HASH_TOLERANCE, THUMBNAIL_TOLERANCE
from assets.entities.phrase_concepts import concept_of, mentions, words_of
from assets.graph.schemas import LAYOUT_BENCHMARK
from assets.graph.versions import GateResult
from training.errors import FoundryError

DECLARED = "samples of the split held_out_concepts"
MEASURED = "samples of the split held_out_images with a concept that no training caption mentions"
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class BenchmarkSources:
    """Rows of all shard groups, only the named columns are read.

    Args:
        annotations: entity_annotations (sample_id, annotator, entity_index, phrase, description, box_xyxy_norm, keep).
        recaptions: recaptions (sample_id, caption_index, caption, keep).
        curated: curated_images (sample_id, image_id, split, perceptual_hash, thumbnail, keep).
        alt_texts: landed_images (sample_id, alt_text).
    """

    annotations: pa.Table
    recaptions: pa.Table
    curated: pa.Table
    alt_texts: pa.Table


def layout_benchmark(
    sources: BenchmarkSources,
    held_out_names: Collection[str] = (),
    annotator: str | None = None,
    min_entities: int = 1,
    max_entities: int = 10,
) -> tuple[pa.Table, GateResult]:
    """Rows of :data:`assets.graph.schemas.LAYOUT_BENCHMARK`, sorted by sample, and the leak check of them.

    Prompts are samples of the split ``held_out_concepts``; a source that declares none gives those of
    ``held_out_images`` that show a concept which no training caption mentions. The prompt is the best caption kept of
    the sample, its alt-text where none was kept.

    Args:
        sources: what was annotated, captioned and curated.
        held_out_names: names of the concepts that the source declares held out, such as a world's; may be empty.
        annotator: whose entities count; needed only where the annotations hold those of several.
        min_entities, max_entities: kept entities that a prompt must have and those that it may have (the first ones
            are taken; published models read 10 boxes).

    Raises:
        FoundryError: impossible limits, or several annotators and none named.
    """
    if not 1 <= min_entities <= max_entities:
        raise FoundryError(
            f"layout_benchmark: min_entities is {min_entities}, max_entities {max_entities}; "
            "allowed is 1 <= min_entities <= max_entities"
        )
    kept = _kept_entities(sources.annotations, annotator)
    texts = _training_texts(sources)
    wanted, selection = _select(sources, kept, held_out_names, texts)
    captions = _global_captions(sources, wanted)
    held_out = _HeldOut(held_out_names, texts)
    rows: list[dict[str, Any]] = []
    for sample_id in sorted(wanted):
        entities = kept.get(sample_id, [])[:max_entities]
        if len(entities) < min_entities or not captions.get(sample_id):
            continue
        rows += [
            _row(sample_id, captions[sample_id], index, entity, held_out)
            for index, entity in enumerate(entities)
        ]
    table = pa.Table.from_pylist(rows, schema=LAYOUT_BENCHMARK)
    return table, check_leaks(table, sources, held_out_names, selection)


def check_leaks(
    benchmark: pa.Table, sources: BenchmarkSources, held_out_names: Collection[str] = (), selection: str = ""
) -> GateResult:
    """Whether a benchmark and the training split are apart: no sample, image or near-duplicate picture in both.

    Findings count the leaks, with the first of each, and say how many captions that models train on mention a
    held-out name: those are perception's mistakes (the pictures show no such thing), reported and no leak of pictures.
    The gate fails for any leak; an empty benchmark, which nothing can leak from, says why it is empty.
    """
    curated = sources.curated
    chosen = pc.is_in(curated["sample_id"], value_set=pc.unique(benchmark["sample_id"]))
    training = pc.and_(pc.equal(curated["split"], "train"), curated["keep"])
    prompts, train = curated.filter(chosen), curated.filter(training)
    same_samples = sorted({*prompts["sample_id"].to_pylist()} & {*train["sample_id"].to_pylist()})
    same_images = sorted({*prompts["image_id"].to_pylist()} & {*train["image_id"].to_pylist()})
    near = near_duplicates(prompts, train)
    texts = [words for _, words in _training_texts(sources)]
    mentioning = {
        name: {number for number, words in enumerate(texts) if mentions(words, name)}
        for name in sorted(held_out_names)
    }
    num_prompts = len(pc.unique(benchmark["sample_id"]))
    findings: dict[str, Any] = {
        "selection": selection,
        "prompts": num_prompts,
        "boxes": benchmark.num_rows,
        "boxes_of_held_out_concepts": int(pc.sum(benchmark["is_held_out_concept"]).as_py() or 0),
        "training_samples_checked": train.num_rows,
        "samples_in_training": len(same_samples),
        "images_in_training": len(same_images),
        "near_duplicates_in_training": len(near),
        "examples_of_leaks": [*same_samples[:3], *same_images[:3], *(f"{a} ~ {b}" for a, b in near[:3])],
        "training_captions": len(texts),
        "training_captions_that_mention_held_out_names": len(set().union(*mentioning.values())),
        "mentions_by_name": {name: len(numbers) for name, numbers in mentioning.items() if numbers},
    }
    passed = not same_samples and not same_images and not near
    if not num_prompts:
        findings["empty_because"] = "no held-out sample has a caption and enough kept entities"
    return GateResult(passed, findings)


def near_duplicates(first: pa.Table, second: pa.Table) -> list[tuple[str, str]]:
    """Pairs of sample_ids, one of each table of curated images, whose pictures are copies of one another.

    Copies as curation defines them: perceptual hashes within ``HASH_TOLERANCE`` bits and thumbnails within
    ``THUMBNAIL_TOLERANCE``. Every pair is looked at; memory is bounded by 1,024 rows of ``second``.
    """
    if not first.num_rows or not second.num_rows:
        return []
    hashes_n, thumbnails_n = _fingerprints(first)
    ids = first["sample_id"].to_pylist()
    pairs: list[tuple[str, str]] = []
    for batch in second.select(["sample_id", "perceptual_hash", "thumbnail"]).to_batches(_ROWS_AT_ONCE):
        part = pa.Table.from_batches([batch])
        hashes_m, thumbnails_m = _fingerprints(part)
        bits_nm = np.bitwise_count(hashes_n[:, None] ^ hashes_m[None])
        rows, columns = np.nonzero(bits_nm <= HASH_TOLERANCE)
        apart = np.abs(thumbnails_n[rows] - thumbnails_m[columns]).mean(axis=1)
        others = part["sample_id"].to_pylist()
        pairs += [
            (ids[row], others[column])
            for row, column, distance in zip(rows, columns, apart, strict=True)
            if distance <= THUMBNAIL_TOLERANCE
        ]
    return pairs


def _fingerprints(curated: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    raw = b"".join(curated["thumbnail"].to_pylist())
    thumbnails = np.frombuffer(raw, np.uint8).reshape(curated.num_rows, -1).astype(np.int16)
    return curated["perceptual_hash"].to_numpy(), thumbnails


def _kept_entities(annotations: pa.Table, annotator: str | None) -> dict[str, list[dict[str, Any]]]:
    """Kept entities of one annotator by sample, best first."""
    annotators = sorted(pc.unique(annotations["annotator"]).to_pylist())
    if annotator is None and len(annotators) > 1:
        raise FoundryError(
            f"layout_benchmark: annotations are of several annotators ({', '.join(annotators)}); name one of them"
        )
    table = (
        annotations
        if annotator is None
        else annotations.filter(pc.equal(annotations["annotator"], annotator))
    )
    table = table.filter(table["keep"])
    columns = ["sample_id", "entity_index", "phrase", "description", "box_xyxy_norm"]
    by_sample: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in (
        table.select(columns).sort_by([("sample_id", "ascending"), ("entity_index", "ascending")]).to_pylist()
    ):
        by_sample[row["sample_id"]].append(row)
    return by_sample


def _training_texts(sources: BenchmarkSources) -> list[tuple[str, list[str]]]:
    """(sample_id, words) of every caption that a model may train on: kept recaptions and alt-texts of the split."""
    curated = sources.curated
    train = curated.filter(pc.and_(pc.equal(curated["split"], "train"), curated["keep"]))["sample_id"]
    kept = sources.recaptions.filter(sources.recaptions["keep"])
    texts: list[tuple[str, list[str]]] = []
    for table, column in ((kept, "caption"), (sources.alt_texts, "alt_text")):
        rows = table.filter(pc.is_in(table["sample_id"], value_set=train.combine_chunks()))
        pairs = zip(rows["sample_id"].to_pylist(), rows[column].to_pylist(), strict=True)
        texts += [(sample_id, words_of(text)) for sample_id, text in pairs]
    return texts


class _HeldOut:
    """Whether training never shows a phrase's concept: by the declared names, else by what captions mention."""

    def __init__(self, names: Collection[str], texts: list[tuple[str, list[str]]]) -> None:
        self._names = names
        self._counts: Counter[str] = (
            Counter() if names else Counter(w for _, words in texts for w in set(words))
        )

    def __call__(self, phrase: str) -> bool:
        concept = concept_of(phrase, self._names)
        if self._names:
            return concept in self._names
        return bool(concept) and not any(
            self._counts[form] for form in (concept, f"{concept}s", f"{concept}es")
        )


def _select(
    sources: BenchmarkSources,
    kept: dict[str, list[dict[str, Any]]],
    held_out_names: Collection[str],
    texts: list[tuple[str, list[str]]],
) -> tuple[set[str], str]:
    """Samples whose captions become prompts, and by which rule."""
    by_split: dict[str, set[str]] = {}
    for split in ("held_out_concepts", "held_out_images"):
        chosen = pc.and_(pc.equal(sources.curated["split"], split), sources.curated["keep"])
        by_split[split] = set(sources.curated.filter(chosen)["sample_id"].to_pylist())
    if by_split["held_out_concepts"]:
        return by_split["held_out_concepts"], DECLARED
    held_out = _HeldOut(held_out_names, texts)
    shows = {sample_id for sample_id, rows in kept.items() if any(held_out(row["phrase"]) for row in rows)}
    return by_split["held_out_images"] & shows, MEASURED


def _global_captions(sources: BenchmarkSources, wanted: set[str]) -> dict[str, str]:
    """The prompt of each sample: the first kept caption, else the alt-text."""
    captions: dict[str, str] = {}
    ids = pa.array(sorted(wanted), pa.string())
    for row in _rows_of(sources.alt_texts, ids, ["sample_id", "alt_text"]):
        captions[row["sample_id"]] = row["alt_text"]
    kept = sources.recaptions.filter(sources.recaptions["keep"])
    rows = list(_rows_of(kept, ids, ["sample_id", "caption_index", "caption"]))
    for row in sorted(rows, key=lambda row: -row["caption_index"]):
        captions[row["sample_id"]] = row["caption"]
    return captions


def _rows_of(table: pa.Table, ids: pa.Array, columns: list[str]) -> Iterator[dict[str, Any]]:
    yield from table.select(columns).filter(pc.is_in(table["sample_id"], value_set=ids)).to_pylist()


def _row(
    sample_id: str, caption: str, index: int, entity: dict[str, Any], held_out: _HeldOut
) -> dict[str, Any]:
    from evaluation.perception.embedded.captioner import place_words
    from evaluation.perception.questions import attributes_of

    description = entity["description"] or entity["phrase"]
    return {
        "sample_id": sample_id,
        "global_caption": caption,
        "entity_index": index,
        "phrase": entity["phrase"],
        "description": description,
        "box_xyxy_norm": entity["box_xyxy_norm"],
        "spatial": place_words(entity["box_xyxy_norm"]),
        **{str(name): word for name, word in attributes_of(description).items()},
        "is_held_out_concept": held_out(entity["phrase"]),
    }
