"""The one dataset: every sample at every size, its captions and states found again, nothing stale let in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from assets.corpus.curation import curate
from assets.corpus.identity import image_id_of
from assets.corpus.image_io import encode_png
from assets.encodings.assembly import DatasetTables, refuse_stale, write_dataset
from assets.encodings.buckets import Geometry
from assets.encodings.latents import LatentEncoder, latent_model, latents_digest
from assets.encodings.text import CaptionEncoder, distinct_texts, text_id, text_model
from assets.graph.schemas import LANDED_IMAGES
from tests.training.text_encoders import checkpoints
from training.errors import FoundryError
from training.packaged_models import SHIPPED_AUTOENCODER, SHIPPED_AUTOENCODER_DIGEST, minilm_digest
from training.recipes.text_encoder import EncoderSettings
from training.shards import TrainingShards

NAMES = ("a", "b", "c", "d")
ALT_TEXTS = ("a red apple", "a fish", "two cats", "sky")
SHAPES = ((64, 64), (40, 90), (90, 40), (64, 64))  # of the pictures


def pictures() -> list[bytes]:
    random = np.random.default_rng(0)
    return [encode_png(random.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in SHAPES]


def landed() -> pa.Table:
    """The pictures as they land; the last one is held out."""
    rows = [
        {
            "sample_id": name, "image_id": image_id_of(image), "source": "s", "shard": "a", "key": name,
            "split": "held_out_images" if name == "d" else "train", "image": image, "width": shape[1],
            "height": shape[0], "alt_text": text, "license": "unknown", "attribution": "",
        }
        for name, image, shape, text in zip(NAMES, pictures(), SHAPES, ALT_TEXTS, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LANDED_IMAGES)


def made_latents(buckets: list[str], more_sizes: list[int]) -> pa.Table:
    encoder = LatentEncoder(str(SHIPPED_AUTOENCODER), SHIPPED_AUTOENCODER_DIGEST, 64, buckets, more_sizes)
    return encoder(pa.table({"sample_id": list(NAMES), "image": pictures()}))


def made_tables(latents: pa.Table, encoder: CaptionEncoder | None = None) -> DatasetTables:
    texts = distinct_texts([*ALT_TEXTS, "an apple that is red"])
    encode = encoder or CaptionEncoder(8, EncoderSettings().model_dump())
    return DatasetTables(
        landed=landed().select(["sample_id", "alt_text"]),
        curated=curate(landed()),
        recaptions=pa.table(
            {"sample_id": ["a"], "caption_index": [1], "caption": ["an apple that is red"], "keep": [True]}
        ),
        embeddings=encode(pa.table({"text_id": list(texts), "text": list(texts.values())})),
        latents=latents,
        nouns=pa.table({"text_id": [text_id(text) for text in texts], "nouns": [[] for _ in texts]}),
    )


def write(folder: Path, tables: DatasetTables, **more: bool) -> TrainingShards:
    counts = write_dataset(
        folder, tables, autoencoder_digest="a" * 64, text_encoder_digest="b" * 64, max_tokens=32, **more
    )
    assert counts["num_samples"] == 4
    assert counts["num_captions"] == 5
    return TrainingShards.open(folder, verify=True)


@pytest.fixture(scope="module")
def squares() -> pa.Table:
    """Latents of the pictures at 64 pixels."""
    torch.set_num_threads(1)
    return made_latents([], [])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_buckets_and_sizes_reach_the_shards(tmp_path: Path) -> None:
    latents = made_latents(["64x64", "48x80"], [128])
    shards = write(tmp_path / "data", made_tables(latents))
    about = shards.description
    assert about.resolutions == (64, 128)
    assert set(about.latent_shapes) == {(16, 12, 20), (16, 16, 16), (16, 24, 40), (16, 32, 32)}
    by_place = {
        (name, resolution): data
        for name, resolution, data in zip(
            *(latents[column].to_pylist() for column in ("sample_id", "resolution", "latent")), strict=True
        )
    }
    assert len(by_place) == 8
    ids = shards.samples["sample_id"].to_pylist()
    assert len(ids) == 8
    for row, name in enumerate(ids):
        shard = about.shards[shards.shards_of(np.array([row]))[0]]
        assert shards.latents(np.array([row])).tobytes() == by_place[name, shard.resolution]
        text = shards.text_of(np.array([row]), np.array([0]))
        assert shards.words(text) == [ALT_TEXTS[NAMES.index(name)]]
        assert shards.num_captions(np.array([row])) == [2 if name == "a" else 1]
    wide = {name for name, h, w in zip(ids, *_sizes(shards), strict=True) if w > h}
    assert wide == {"b"}  # 40 x 90; 90 x 40 is nearer to the square than to 48 x 80


def _sizes(shards: TrainingShards) -> tuple[list[int], list[int]]:
    kinds = [shards.description.shards[shards.shards_of(np.array([row]))[0]] for row in range(8)]
    return [kind.latent_shape[1] for kind in kinds], [kind.latent_shape[2] for kind in kinds]


def test_states_are_those_of_the_words_with_any_encoder(tmp_path: Path, squares: pa.Table) -> None:
    folder = checkpoints.clip(tmp_path / "clip")
    settings = EncoderSettings(family="clip", path=str(folder), max_tokens=20, pooled="projected")
    encoder = CaptionEncoder(3, settings.model_dump())
    assert text_model(3, settings).name == "clip"
    shards = write(tmp_path / "data", made_tables(squares, encoder))
    assert shards.description.text_dim == 32
    rows = np.array([0, 1, 3])
    texts = np.append(shards.text_of(rows, np.array([1, 0, 0])), 0)
    words = shards.words(texts)
    assert words == ["an apple that is red", "a fish", "sky", ""]
    batch = shards.text_states(texts, pooled=True)
    rows_of = encoder(pa.table({"text_id": [text_id(word) for word in words], "text": words}))
    for index in range(4):
        expected = np.frombuffer(rows_of["states"][index].as_py(), np.float16).reshape(-1, 32)
        np.testing.assert_allclose(batch.states[index][batch.mask[index]], expected, atol=2e-3, rtol=2e-3)
    assert batch.pooled is not None
    assert batch.pooled.shape == (4, 24)


def test_words_alone_for_texts_that_are_encoded_while_training(tmp_path: Path, squares: pa.Table) -> None:
    shards = write(tmp_path / "data", made_tables(squares), store_states=False)
    assert not shards.description.has_states
    assert shards.words(np.array([0])) == [""]
    assert not list((tmp_path / "data").glob("text_states*"))


def test_a_caption_without_embedding_is_named(tmp_path: Path, squares: pa.Table) -> None:
    tables = made_tables(squares)
    few = replace(tables, embeddings=tables.embeddings.slice(0, 2))
    with pytest.raises(FoundryError, match="The caption 'an apple that is red' has no embedding"):
        write(tmp_path / "data", few)
    assert not (tmp_path / "data").exists()


def test_each_setting_makes_latents_of_another_model(tmp_path: Path) -> None:
    digests = [
        latents_digest(autoencoder, Geometry.of(size, buckets, more))
        for autoencoder in ("a" * 64, "b" * 64)
        for size in (64, 32)
        for buckets in ([], ["64x64", "48x80"])
        for more in ([], [128])
    ]
    assert len(set(digests)) == 16
    assert latent_model(tmp_path, "a" * 64, 64).digest == digests[0]
    assert latent_model(tmp_path, "a" * 64, 64, ["64x64", "48x80"], [128]).digest == digests[3]
    # one square bucket is what no buckets are
    assert latents_digest("a" * 64, Geometry.of(64, ["64x64"])) == digests[0]


def test_rows_of_another_model_are_refused() -> None:
    def rows(*digests: str) -> pa.Table:
        return pa.table({"model_digest": list(digests)})

    refuse_stale(rows("x" * 64, "x" * 64), "image_latents", {"x" * 64}, "the autoencoder")
    with pytest.raises(
        FoundryError, match="image_latents: rows were made by yyyyyyyyyyyy…, wanted is the autoencoder"
    ):
        refuse_stale(rows("x" * 64, "y" * 64), "image_latents", {"x" * 64}, "the autoencoder")
    with pytest.raises(FoundryError, match="in all shard groups"):
        refuse_stale(rows("x" * 64, "y" * 64), "image_latents", {"x" * 64, "y" * 64}, "the autoencoder")


def test_minilm_is_the_default() -> None:
    assert text_model(64, EncoderSettings()).digest == minilm_digest()
    assert text_model(64, EncoderSettings()).name == "all-MiniLM-L6-v2"
