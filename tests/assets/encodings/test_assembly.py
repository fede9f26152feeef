"""What goes into the training shards: curated samples, on request what curation dropped, never a leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from assets.corpus.curation import curate
from assets.corpus.identity import image_id_of, sample_id_of
from assets.corpus.image_io import decode_rgb
from assets.encodings.assembly import DatasetTables, gate_of, write_dataset
from assets.encodings.text import text_id
from assets.graph.schemas import LANDED_IMAGES
from tests.assets.corpus.makers import picture
from training.errors import FoundryError
from training.shards import TrainingShards

TEXTS = {"a red apple": ["apple"], "a dog": ["dog"], "a dog and a crown": ["dog", "crown"], "": []}
SAMPLES = [  # key, picture, split, alt-text
    ("dog 1", picture(1), "train", "a dog"),
    ("dog 2", picture(2), "train", "a dog"),
    ("crown", picture(3), "train", "a dog and a crown"),
    ("apple", picture(4), "train", "a red apple"),
    ("copy of apple", picture(4), "train", "a red apple"),
    ("tiny", picture(5, 8, 8), "train", "a dog"),
    ("held out", picture(6), "held_out_images", "a dog"),
    ("leak", picture(6, 16, 16), "train", "a dog"),
]


def landed() -> pa.Table:
    rows = []
    for key, image, split, text in SAMPLES:
        height, width = decode_rgb(image).shape[:2]
        image_id = image_id_of(image)
        rows.append(
            {
                "sample_id": sample_id_of(image_id, "s", key), "image_id": image_id, "source": "s", "shard": "a",
                "key": key, "split": split, "image": image, "width": width, "height": height, "alt_text": text,
                "license": "unknown", "attribution": "",
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LANDED_IMAGES)


@pytest.fixture(scope="module")
def tables() -> DatasetTables:
    samples = landed()
    ids = [text_id(text) for text in TEXTS]
    zeros = np.zeros((2, 4), np.float16)
    return DatasetTables(
        landed=samples.select(["sample_id", "alt_text"]),
        curated=curate(samples),
        recaptions=pa.table(
            {
                "sample_id": pa.array([], pa.string()), "caption_index": pa.array([], pa.int32()),
                "caption": pa.array([], pa.string()), "keep": pa.array([], pa.bool_()),
            }
        ),
        embeddings=pa.table(
            {
                "text_id": ids, "num_tokens": [2] * len(ids), "states": [zeros.tobytes()] * len(ids),
                "pooled": [zeros[0].tobytes()] * len(ids),
            }
        ),
        latents=pa.table(
            {
                "sample_id": samples["sample_id"], "resolution": [64] * len(SAMPLES),
                "height": [2] * len(SAMPLES), "width": [2] * len(SAMPLES),
                "latent": [np.zeros((2, 2, 2), np.float16).tobytes()] * len(SAMPLES),
            }
        ),
        nouns=pa.table({"text_id": ids, "nouns": list(TEXTS.values())}),
    )  # fmt: skip


def keys(shards: TrainingShards, rows: np.ndarray) -> set[str]:
    names = dict(zip(landed()["sample_id"].to_pylist(), landed()["key"].to_pylist(), strict=True))
    return {names[sample_id] for sample_id in shards.samples["sample_id"].take(pa.array(rows)).to_pylist()}


def written(folder: Path, tables: DatasetTables, *, raw: bool) -> tuple[TrainingShards, dict[str, int]]:
    counts = write_dataset(
        folder / "shards", tables, autoencoder_digest="a" * 64, text_encoder_digest="b" * 64,
        max_tokens=32, raw=raw,
    )  # fmt: skip
    return TrainingShards.open(folder / "shards"), counts


def test_what_curation_dropped_is_there_on_request_and_leaks_never(
    tmp_path: Path, tables: DatasetTables
) -> None:
    shards, counts = written(tmp_path, tables, raw=True)
    curated = keys(shards, shards.select(["train"]))
    assert curated - {"apple", "copy of apple"} == {"dog 1", "dog 2", "crown"}
    assert len(curated) == 4, "one of two copies stays"
    assert keys(shards, shards.select(["train"], raw=True)) - curated in (
        {"copy of apple", "tiny"},
        {"apple", "tiny"},
    )
    assert counts["dropped_by_curation"] == 2
    assert gate_of(counts, 4).passed
    assert not gate_of(counts, 5).passed, "dropped samples do not count for the gate"


def test_the_curated_dataset_holds_nothing_else(tmp_path: Path, tables: DatasetTables) -> None:
    shards, counts = written(tmp_path, tables, raw=False)
    assert shards.samples.num_rows == 5
    assert counts["dropped_by_curation"] == 0
    assert list(shards.select(["train"])) == list(shards.select(["train"], raw=True))


def test_concepts_are_the_commonest_nouns_of_training_alt_texts(
    tmp_path: Path, tables: DatasetTables
) -> None:
    shards, _ = written(tmp_path, tables, raw=True)
    one = keys(shards, shards.select(["train"], max_concepts=1))
    assert one == {"dog 1", "dog 2"}, "dog is said of three samples; the crown's also names a crown"
    two = keys(shards, shards.select(["train"], max_concepts=2))
    assert len(two - one) == 1, "apple and crown are as common: the name decides"
    assert two - one <= {"apple", "copy of apple"}
    assert len(shards.select(["train"], max_concepts=3)) == 4
    with pytest.raises(FoundryError, match="no samples in splits judge about the 3 commonest nouns"):
        shards.select(["judge"], max_concepts=3)
