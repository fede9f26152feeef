"""What is written is read back by gathering, and broken parts are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.training.conftest import MAX_TOKENS, NUM_SAMPLES, NUM_TEXTS
from training.errors import FoundryError
from training.shards import ImageShards, TrainingShards, write_image_shards, write_training_shards


def test_gathering_equals_reading_one_by_one(shards_folder: Path) -> None:
    shards = TrainingShards.open(shards_folder, verify=True)
    rows = np.array([7, 0, 7, 3])
    latents, states, offsets, index_of, first = (
        np.load(shards_folder / f"{name}-00000.npy")
        for name in ("latents", "text_states", "text_offsets", "caption_text_index", "caption_offsets")
    )
    assert np.array_equal(
        shards.gather_latents(rows), np.stack([latents[r] for r in rows]).astype(np.float32)
    )
    texts = shards.text_of(rows, np.zeros(4, np.int64))
    assert list(texts - 1) == [index_of[first[r]] for r in rows]
    batch = shards.gather_text(texts)
    for index, text in enumerate(texts - 1):
        slow = states[offsets[text] : offsets[text + 1]]
        assert np.array_equal(batch.states[index, : len(slow)], slow.astype(np.float32))
        assert not batch.states[index, len(slow) :].any()
        assert batch.mask[index].sum() == len(slow)
    assert batch.mask.any(0).all()  # padded to the longest only
    assert shards.gather_text(texts, MAX_TOKENS).states.shape == (4, MAX_TOKENS, 384)


def test_selection_by_split(shards_folder: Path) -> None:
    shards = TrainingShards.open(shards_folder)
    assert list(shards.select(["train"])) == list(range(10))
    assert list(shards.select(["held_out_images"])) == [10, 11]
    assert len(shards.select(["train", "held_out_images"], max_samples=11)) == 11
    assert shards.description.splits == {"train": 10, "held_out_images": 2}
    with pytest.raises(FoundryError, match="no samples in splits judge; it has"):
        shards.select(["judge"])


def test_a_dataset_without_concepts_says_so(shards_folder: Path) -> None:
    with pytest.raises(FoundryError, match="no column 'concept_rank'"):
        TrainingShards.open(shards_folder).select(["train"], max_concepts=1)


def parts() -> dict[str, Any]:
    return {
        "samples": pa.table({"sample_id": ["a", "b"], "split": ["train", "train"]}),
        "latents": np.zeros((2, 4, 2, 2), np.float16),
        "caption_offsets": np.array([0, 1, 3], np.int64),
        "caption_text_index": np.array([0, 1, 1], np.int64),
        "text_states": np.zeros((5, 6), np.float16),
        "text_lengths": np.array([2, 3], np.int32),
        "pooled": np.zeros((2, 6), np.float16),
        "null_text_index": 0,
        "autoencoder_digest": "a" * 64,
        "text_encoder_digest": "b" * 64,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": pa.table({"sample_id": ["a", "b"]})}, "lack column 'split'"),
        ({"samples": pa.table({"sample_id": ["a"], "split": ["train"]})}, "1 samples for 2"),
        ({"caption_offsets": np.array([0, 1, 2], np.int64)}, "caption_offsets must run from 0 to 3"),
        ({"caption_offsets": np.array([0, 0, 3], np.int64)}, "at least one caption"),
        ({"caption_text_index": np.array([0, 1, 2], np.int64)}, r"0 \.\. 1"),
        ({"text_lengths": np.array([2, 2], np.int32)}, "text_lengths sum to 4"),
        ({"text_lengths": np.array([5, 0], np.int32)}, r"1 \.\. 32"),
        ({"null_text_index": 2}, "null_text_index is 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        write_training_shards(tmp_path / "data", **{**parts(), **change})
    assert not (tmp_path / "data").exists()


def test_rewriting_replaces_the_whole_folder(tmp_path: Path) -> None:
    write_training_shards(tmp_path / "data", **parts())
    write_training_shards(tmp_path / "data", **{**parts(), "latents": np.ones((2, 4, 2, 2), np.float16)})
    assert TrainingShards.open(tmp_path / "data", verify=True).gather_latents(np.array([0])).min() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_one_flipped_byte_is_found(shards_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards_folder, copy)
    data = bytearray((copy / "latents-00000.npy").read_bytes())
    data[-1] ^= 1
    (copy / "latents-00000.npy").write_bytes(data)
    with pytest.raises(FoundryError, match=r"latents-00000\.npy: damaged"):
        TrainingShards.open(copy, verify=True)
    (copy / "pooled-00000.npy").unlink()
    with pytest.raises(FoundryError, match=r"pooled-00000\.npy: missing"):
        TrainingShards.open(copy)


def test_wrong_folders_are_named(tmp_path: Path, shards_folder: Path) -> None:
    with pytest.raises(FoundryError, match=r"dataset\.json: cannot be read"):
        TrainingShards.open(tmp_path)
    with pytest.raises(FoundryError, match="format is 'latents-2', expected 'images-1'"):
        ImageShards.open(shards_folder)


def test_pictures_and_captions(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    samples = pa.table({"sample_id": ["a", "b"], "split": ["train", "train"]})
    write_image_shards(tmp_path / "images", samples, images, [["one"], ["two", "zwei"]])
    shards = ImageShards.open(tmp_path / "images", verify=True)
    batch = shards.gather_images(np.array([1]))
    assert np.allclose((batch[0].transpose(1, 2, 0) + 1) * 127.5, images[1], atol=1e-3)
    assert shards.captions() == [["one"], ["two", "zwei"]]
    with pytest.raises(FoundryError, match="at least one caption"):
        write_image_shards(tmp_path / "other", samples, images, [["one"], []])
    write_image_shards(tmp_path / "bare", samples, images)
    with pytest.raises(FoundryError, match="has no captions"):
        ImageShards.open(tmp_path / "bare").captions()


def test_fixture_is_as_described(shards_folder: Path) -> None:
    about = TrainingShards.open(shards_folder).description
    assert (about.num_samples, about.max_tokens, len(about.shards)) == (NUM_SAMPLES, MAX_TOKENS, 2)
    assert sum(shard.num_texts for shard in about.shards) + 1 == about.num_texts <= 2 * NUM_TEXTS
