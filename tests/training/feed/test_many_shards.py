"""A dataset of many shards reads like one of a single shard, whatever the parts it was written from."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.training.feed.makers import SHAPES, latent_of, names, part, parts, states_of, write
from training.errors import FoundryError
from training.randomness import sample_keys
from training.shards import TrainingShards
from training.shards import gathering as gathering_module


def test_many_shards_read_like_one(tmp_path: Path) -> None:
    many = write(tmp_path / "many", parts(40))
    one = write(tmp_path / "one", parts(40), shard_bytes=2**30)
    assert len(many.description.shards) >= 4
    assert len(one.description.shards) == 1
    rows = np.random.default_rng(0).permutation(40)[:17]
    assert np.array_equal(many.latents(rows), one.latents(rows))
    captions = np.arange(17) % 2
    texts = [shards.text_of(rows, captions) for shards in (many, one)]
    assert many.words(texts[0]) == one.words(texts[1])
    for name in ("states", "mask"):
        found = [getattr(shards.gather_text(t), name) for shards, t in zip((many, one), texts, strict=True)]
        assert np.array_equal(*found)
    assert np.array_equal(many.sample_keys(rows), sample_keys([f"s-{row}" for row in rows]))
    assert many.samples.equals(one.samples)
    assert many.samples["sample_id"].to_pylist() == names(40)


def test_each_row_is_what_its_name_says(tmp_path: Path) -> None:
    shards = write(tmp_path / "data", parts(40))
    rows = np.array([39, 0, 7, 8, 39])
    for row, latent in zip(rows, shards.latents(rows), strict=True):
        assert np.array_equal(latent, latent_of(f"s-{row}", SHAPES[0]))
    texts = shards.text_of(rows, np.zeros(5, np.int64))
    assert shards.words(np.append(texts, 0)) == [*(f"s-{row} a" for row in rows), ""]
    batch = shards.text_states(texts, pooled=True)
    assert batch.pooled is not None
    for index, row in enumerate(rows):
        expected = states_of(f"s-{row} a")
        assert np.array_equal(batch.states[index][batch.mask[index]], expected)
        assert np.array_equal(batch.pooled[index], expected[0])
    assert (shards.num_captions(rows) == 2).all()


def test_where_parts_are_cut_does_not_matter(tmp_path: Path) -> None:
    first = write(tmp_path / "first", parts(40, size=8), shard_bytes=2**30)
    second = write(tmp_path / "second", parts(40, size=40), shard_bytes=2**30)
    rows = np.arange(40)
    assert np.array_equal(first.latents(rows), second.latents(rows))
    assert first.words(first.text_of(rows, rows % 2)) == second.words(second.text_of(rows, rows % 2))


def test_writing_needs_the_memory_of_one_part(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        pieces = (part(names(64, f"p{index}"), (4, 32, 32)) for index in range(count))
        write(tmp_path / str(count), pieces, shard_bytes=2**20)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(16) < 1.5 * peak(2)


def test_one_split_a_shard_in_order_of_rows(tmp_path: Path) -> None:
    pieces = [part(names(3)), part(names(2, "h"), split="held_out"), part(names(4, "more"))]
    shards = write(tmp_path / "data", pieces)
    assert [shard.split for shard in shards.description.shards] == ["train", "held_out"]
    assert shards.description.splits == {"train": 7, "held_out": 2}
    held_out = shards.samples.take(shards.select(["held_out"]))["sample_id"].to_pylist()
    assert held_out == names(2, "h")


def test_a_share_of_each_shape_is_selected(tmp_path: Path) -> None:
    pieces = [part(names(6), SHAPES[0], 32), part(names(3, "wide"), SHAPES[1], 32)]
    shards = write(tmp_path / "data", pieces)
    assert shards.description.latent_shape is None
    assert shards.description.latent_shapes == SHAPES
    assert shards.select(["train"], 6).tolist() == [0, 1, 2, 3, 6, 7]
    assert shards.select(["train"], 99).tolist() == list(range(9))
    with pytest.raises(FoundryError, match=r"one shape, found rows of \[\(4, 2, 6\), \(4, 4, 4\)\]"):
        shards.latents(np.array([0, 7]))
    with pytest.raises(FoundryError, match="at resolution 64; it has .* resolutions 32"):
        shards.ranges(["train"], resolution=64)


def test_rows_out_of_range_are_refused(tmp_path: Path) -> None:
    shards = write(tmp_path / "data", parts(8))
    for rows in ([8], [-1]):
        with pytest.raises(FoundryError, match=r"rows must lie in 0 \.\. 7"):
            shards.sample_keys(np.array(rows))


def test_texts_of_two_kinds_are_refused(tmp_path: Path) -> None:
    pieces = [part(names(2), with_states=False)]
    with pytest.raises(FoundryError, match="must store the same as the empty text"):
        write(tmp_path / "data", pieces)
    assert list(tmp_path.iterdir()) == []
    shards = write(tmp_path / "words", [part(names(2), with_states=False)], with_states=False)
    assert shards.description.has_states is False
    assert shards.words(np.array([1])) == ["s-0 a"]
    with pytest.raises(
        FoundryError, match=r"text_states-null\.npy: not there; the dataset was written without"
    ):
        shards.gather_text(np.array([1]))


def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data", parts(40))
    monkeypatch.setattr(gathering_module, "MAX_OPEN_ARRAYS", 2)
    shards = TrainingShards.open(tmp_path / "data")
    rows = np.random.default_rng(1).permutation(40)
    expected = np.stack([latent_of(f"s-{row}", SHAPES[0]) for row in rows])
    assert np.array_equal(shards.latents(rows), expected)
    assert len(shards.arrays._open) == 2
