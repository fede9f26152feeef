"""What a shard stores follows from one row an array, and its bytes are what they always were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.feed import makers
from training.digests import canonical_json, sha256_bytes, sha256_file
from training.errors import FoundryError
from training.shards import SamplePart
from training.shards.arrays import SHARD_ARRAYS, ShardArray, array_file, array_in, arrays_of, shard_array

TEXTS = {
    "words and states": {"with_words": True, "with_states": True},
    "states": {"with_words": False, "with_states": True},
    "words": {"with_words": True, "with_states": False},
}
WRITTEN = {
    "words and states": "f4f0155b2e1a186242e745cadf517cd38feff7509189bf9d7cb8f17f251d2d83",
    "states": "f119c95605f79e4e532bd3618e1dbebaebf8d381c796ddaed3c1f39d5428d46d",
    "words": "cee81e065c6c3e26298e53d786028e9104ef4e6d180f89bc610257badcd90018",
}


def pieces(**texts: Any) -> list[SamplePart]:
    """Two shapes, two splits, a resolution; more samples than fit into one shard."""
    return [
        *(makers.part(makers.names(14)[start : start + 3], **texts) for start in range(0, 14, 3)),
        makers.part(makers.names(4, "wide"), makers.SHAPES[1], 64, **texts),
        makers.part(makers.names(2, "wider"), makers.SHAPES[1], 64, **texts),
        makers.part(makers.names(3, "held"), split="held_out_images", **texts),
        makers.part(makers.names(5, "late"), **texts),
    ]


def digest_of_arrays(folder: Path, about: dict[str, object]) -> str:
    """Of every array and of ``dataset.json``, without the list of samples, whose bytes are Parquet's own."""
    for kind in ("files", "sizes"):
        about[kind] = {name: value for name, value in dict(about[kind]).items() if name.endswith(".npy")}  # type: ignore[call-overload]
    found = {path.name: sha256_file(path) for path in sorted(folder.glob("*.npy"))}
    return sha256_bytes(canonical_json([about, found]).encode())


@pytest.mark.parametrize("stored", list(TEXTS))
def test_bytes_are_what_they_always_were(tmp_path: Path, stored: str) -> None:
    texts = TEXTS[stored]
    shards = makers.write(tmp_path / "data", pieces(**texts), **texts)
    assert len(shards.description.shards) > 3
    assert digest_of_arrays(tmp_path / "data", shards.description.model_dump(mode="json")) == WRITTEN[stored]


@pytest.mark.parametrize("stored", list(TEXTS))
def test_every_file_is_a_row_of_its_type_and_has_one_row_an_item(tmp_path: Path, stored: str) -> None:
    texts = TEXTS[stored]
    about = makers.write(tmp_path / "data", pieces(**texts), **texts).description
    parts = [part for part in ("states", "words") if part in stored]
    for number, shard in enumerate(about.shards):
        files = about.shard_files(number)
        assert {array_in(file, number) for file in files} == set(arrays_of("samples", *parts))
        found = {
            name: np.load(tmp_path / "data" / array_file(name, number))
            for name in arrays_of("samples", *parts)
        }
        counts = {"sample": shard.num_samples, "text": shard.num_texts}
        for name, array in found.items():
            row = SHARD_ARRAYS[name]
            assert array.dtype == row.dtype
            assert len(array) - bool(row.ends_of) == counts.setdefault(row.per, len(array))
            if row.ends_of:
                assert array[0] == 0
                assert array[-1] == counts.setdefault(row.ends_of, array[-1])
    assert sorted(about.shared_files()) == sorted(array_file(name, None) for name in arrays_of(*parts))


def test_rows_of_staging_are_those_of_their_parts() -> None:
    assert arrays_of("samples") == ("latents", "caption_offsets", "caption_text_index", "sample_keys")
    assert arrays_of("states") == ("text_states", "text_offsets", "pooled")
    assert arrays_of("words") == ("text_bytes", "text_starts")
    with pytest.raises(FoundryError, match="there is no array 'latent'; did you mean 'latents'"):
        shard_array("latent")


DEPTH = ShardArray("depth", np.dtype(np.float16), "sample", "depth")


@pytest.fixture
def with_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row more than there are, as somebody adds who needs another array of every sample."""
    monkeypatch.setattr("training.shards.arrays.SHARD_ARRAYS", {**SHARD_ARRAYS, "depth": DEPTH})


def deep(part: SamplePart, **more: np.ndarray) -> SamplePart:
    """The part with the depth of each sample: its first latent, and a row of its own."""
    return replace(part, more=more or {"depth": part.latents[:, :1, :2, :2] * 2})


@pytest.mark.usefixtures("with_depth")
def test_an_array_that_only_some_datasets_store_is_one_row(tmp_path: Path) -> None:
    plain = makers.write(tmp_path / "plain", makers.parts(20))
    shards = makers.write(tmp_path / "data", [deep(part) for part in makers.parts(20)])
    assert shards.description.stores("depth")
    assert not plain.description.stores("depth")
    assert shards.description.format == plain.description.format
    rows = np.array([17, 0, 9, 9])
    assert np.array_equal(shards.of_samples("depth", rows), shards.latents(rows)[:, :1, :2, :2] * 2)
    names = {array_in(file, 0) for file in shards.description.shard_files(0, arrays_of("samples", "depth"))}
    assert names == {*arrays_of("samples"), "depth"}
    with pytest.raises(FoundryError, match="written without"):
        plain.of_samples("depth", rows)


@pytest.mark.usefixtures("with_depth")
@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"depth": np.zeros((7, 1, 2, 2), np.float16)}, "depth has 7 rows for 8 samples"),
        ({"depht": np.zeros((8, 1, 2, 2), np.float16)}, "no array 'depht'; did you mean 'depth'"),
        ({"latents": np.zeros((8, 1, 2, 2), np.float16)}, "array of a part of its own"),
        ({"depth": np.zeros((8, 1, 2, 3), np.float16)}, "beside latents and captions, those before"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, second: dict[str, np.ndarray], message: str
) -> None:
    first, *_, last = makers.parts(16)
    with pytest.raises(FoundryError, match=message):
        makers.write(tmp_path / "data", [deep(first), deep(last, **second)])
    assert not (tmp_path / "data").exists()
