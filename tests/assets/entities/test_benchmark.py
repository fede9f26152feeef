"""The benchmark holds what training never saw, and says so when that is not so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assets.entities.benchmark import DECLARED, MEASURED, BenchmarkSources, layout_benchmark, near_duplicates
from assets.entities.phrase_concepts import concept_of, mentions, words_of
from assets.graph.schemas import CURATED_IMAGES, LAYOUT_BENCHMARK
from training.errors import FoundryError

NAMES = ("strawberry", "soccer ball")


def _curated(*rows: tuple[str, str], **changes: Any) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.Table.from_pylist(
        [
            {
                "sample_id": sample_id,
                "image_id": f"image of {sample_id}",
                "split": split,
                "perceptual_hash": int(random.integers(0, 2**62)),
                "thumbnail": random.integers(0, 256, 192, dtype=np.uint8).tobytes(),
                "keep": True,
                "dropped_because": "",
            }
            | changes.get(sample_id, {})
            for sample_id, split in rows
        ],
        schema=CURATED_IMAGES,
    )


def _entity(sample_id: str, index: int, phrase: str, **changes: Any) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "annotator": "one",
        "entity_index": index,
        "phrase": phrase,
        "description": f"a smooth round {phrase} in gray",
        "box_xyxy_norm": [0.0, 0.0, 0.3, 0.3],
        "keep": True,
    } | changes


def _sources(**changes: pa.Table) -> BenchmarkSources:
    sources = BenchmarkSources(
        annotations=pa.Table.from_pylist(
            [
                _entity("c1", 1, "dog"),
                _entity("c1", 0, "red strawberry"),
                _entity("c1", 2, "cat", keep=False),
                _entity("c2", 0, "two soccer balls", description=""),
                _entity("c3", 0, "dog", keep=False),
                _entity("t1", 0, "dog"),
                _entity("h1", 0, "violin in a case"),
                _entity("h2", 0, "dog"),
            ]
        ),
        recaptions=pa.Table.from_pylist(
            [
                {"sample_id": sample_id, "caption_index": index, "caption": caption, "keep": keep}
                for sample_id, index, caption, keep in [
                    ("c1", 2, "second", True),
                    ("c1", 1, "a strawberry and a dog", True),
                    ("c2", 1, "bad", False),
                    ("c3", 1, "nothing kept", True),
                    ("t1", 1, "a dog eats Strawberries", True),
                    ("t2", 1, "a strawberry that was dropped", False),
                    ("h1", 1, "a violin", True),
                    ("h2", 1, "a dog", True),
                ]
            ]
        ),
        curated=_curated(
            ("c1", "held_out_concepts"),
            ("c2", "held_out_concepts"),
            ("c3", "held_out_concepts"),
            ("t1", "train"),
            ("t2", "train"),
            ("h1", "held_out_images"),
            ("h2", "held_out_images"),
        ),
        alt_texts=pa.table(
            {
                "sample_id": ["c1", "c2", "c3", "t1", "t2", "h1", "h2"],
                "alt_text": ["alt", "soccer!", "alt", "dog", "a car", "alt", "alt"],
            }
        ),
    )
    return replace(sources, **changes)


def test_prompts_are_held_out_samples_with_their_kept_entities() -> None:
    table, gate = layout_benchmark(_sources(), NAMES)
    assert table.schema.equals(LAYOUT_BENCHMARK)
    rows = table.to_pylist()
    assert [(row["sample_id"], row["entity_index"], row["phrase"]) for row in rows] == [
        ("c1", 0, "red strawberry"),
        ("c1", 1, "dog"),
        ("c2", 0, "two soccer balls"),
    ]
    assert [row["global_caption"] for row in rows] == ["a strawberry and a dog"] * 2 + ["soccer!"]
    assert [row["is_held_out_concept"] for row in rows] == [True, False, True]
    first = rows[0]
    assert (first["spatial"], first["color"], first["texture"], first["shape"]) == (
        "at the top left", "red and gray", "smooth", "round",
    )  # fmt: skip
    assert rows[2]["description"] == "two soccer balls"
    assert gate.passed
    assert gate.findings["selection"] == DECLARED
    assert gate.findings["training_captions"] == 3
    assert gate.findings["mentions_by_name"] == {"strawberry": 1}


def test_a_source_without_declared_concepts_is_held_out_by_measurement() -> None:
    sources = _sources()
    splits = [
        "judge" if split == "held_out_concepts" else split for split in sources.curated["split"].to_pylist()
    ]
    curated = sources.curated.set_column(2, CURATED_IMAGES.field("split"), pa.array(splits))
    table, gate = layout_benchmark(replace(sources, curated=curated))
    assert table["sample_id"].to_pylist() == ["h1"]
    assert table["is_held_out_concept"].to_pylist() == [True]
    assert gate.passed
    assert gate.findings["selection"] == MEASURED


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"image_id": "image of c1"}, "images_in_training"),
        ({"perceptual_hash": 0b0101, "thumbnail": bytes(192)}, "near_duplicates_in_training"),
    ],
)
def test_a_leaked_picture_fails_the_gate(change: dict[str, Any], finding: str) -> None:
    rows = [("c1", "held_out_concepts"), ("t1", "train")]
    copy = {"c1": {"perceptual_hash": 0, "thumbnail": bytes([4] * 192)}}
    _, clean = layout_benchmark(_sources(curated=_curated(*rows, **copy)), NAMES)
    assert clean.passed
    _, gate = layout_benchmark(_sources(curated=_curated(*rows, **copy, t1=change)), NAMES)
    assert not gate.passed
    assert gate.findings[finding] == 1
    assert len(gate.findings["examples_of_leaks"]) == 1
    dropped = change | {"keep": False, "dropped_because": "duplicate"}
    _, mended = layout_benchmark(_sources(curated=_curated(*rows, **copy, t1=dropped)), NAMES)
    assert mended.passed, "what curation dropped is not trained on"


def test_a_sample_in_both_splits_is_found() -> None:
    curated = _curated(("c1", "held_out_concepts"), ("c1", "train"))
    _, gate = layout_benchmark(_sources(curated=curated), NAMES)
    assert not gate.passed
    assert gate.findings["samples_in_training"] == 1


def test_an_empty_benchmark_leaks_nothing_and_says_why() -> None:
    table, gate = layout_benchmark(_sources(curated=_curated(("t1", "train"))), NAMES)
    assert table.num_rows == 0
    assert gate.passed
    assert "no held-out sample" in gate.findings["empty_because"]


def test_near_duplicates_equal_the_obvious_loop() -> None:
    random = np.random.default_rng(3)
    tables = []
    for count in (17, 1500):
        hashes = random.integers(0, 256, count).astype(np.uint64)
        thumbnails = [bytes([int(value)] * 192) for value in random.integers(0, 12, count)]
        ids = [f"{count}-{index}" for index in range(count)]
        tables.append(pa.table({"sample_id": ids, "perceptual_hash": hashes, "thumbnail": thumbnails}))
    first, second = (table.to_pylist() for table in tables)
    expected = {
        (a["sample_id"], b["sample_id"])
        for a in first
        for b in second
        if (a["perceptual_hash"] ^ b["perceptual_hash"]).bit_count() <= 4
        and abs(a["thumbnail"][0] - b["thumbnail"][0]) <= 5
    }
    found = near_duplicates(*tables)
    assert set(found) == expected
    assert len(found) == len(expected) > 0
    assert near_duplicates(tables[0].slice(0, 0), tables[1]) == []


def test_bad_input() -> None:
    with pytest.raises(FoundryError, match="min_entities is 3"):
        layout_benchmark(_sources(), NAMES, min_entities=3, max_entities=2)
    two = pa.Table.from_pylist([_entity("c1", 0, "dog"), _entity("c1", 0, "dog", annotator="two")])
    with pytest.raises(FoundryError, match="one, two"):
        layout_benchmark(_sources(annotations=two), NAMES)
    table, _ = layout_benchmark(_sources(annotations=two), NAMES, annotator="two")
    assert table.num_rows == 1


@pytest.mark.parametrize(
    ("phrase", "concept"),
    [
        ("a red apple", "apple"),
        ("two soccer balls", "soccer ball"),
        ("a man in a blue hat", "man"),
        ('the word "LOVE"', "love"),
        ("Strawberries", "strawberry"),
        ("  !? ", "!?"),
        ("", ""),
    ],
)
def test_concept_of_a_phrase(phrase: str, concept: str) -> None:
    assert concept_of(phrase, NAMES) == concept


def test_mentions_are_whole_words() -> None:
    assert mentions(words_of("Two Soccer-balls, soccer balls"), "soccer ball")
    assert not mentions(words_of("a strawberryish soccer game with a ball"), "soccer ball")
    assert not mentions(words_of("a strawberryish thing"), "strawberry")
    assert not mentions(words_of("anything"), "")
