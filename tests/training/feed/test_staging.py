"""Shards come from a URL into a bounded folder, verified, ahead of their use; the batches are those of a local run."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tests.training.feed.makers import parts, write
from training.digests import folder_digest
from training.errors import FoundryError
from training.feed.latents import LatentFeed
from training.feed.staging import RemoteDataset, Stager, claim_cache
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.shards import TrainingShards
from training.shards.arrays import arrays_of


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[tuple[TrainingShards, str]]:
    """A dataset in fsspec's memory file system, and the same one in a folder."""
    local = write(tmp_path / "local", parts(48))
    files = fsspec.filesystem("memory")
    files.put(str(local.folder), "/bucket/data", recursive=True)
    yield local, "memory://bucket/data"
    files.rm("/bucket", recursive=True)


def shard_bytes(shards: TrainingShards) -> int:
    """Bytes that the largest shard takes in a cache."""
    about = shards.description
    names = [about.shard_files(shard, arrays_of("samples", "states")) for shard in range(len(about.shards))]
    return max(sum(about.sizes[name] for name in each) for each in names)


def stager(
    url: str, cache: Path, limit: int, shards: TrainingShards | None = None
) -> tuple[Stager, TrainingShards]:
    cache.mkdir(exist_ok=True)
    dataset = RemoteDataset(url)
    reader = TrainingShards(cache, dataset.description)
    return Stager(dataset, cache, limit, arrays_of("samples", "states"), reader.arrays), reader


def size_of(cache: Path) -> int:
    return sum(size for path in cache.iterdir() if "-null" not in path.name for size in size_if_there(path))


def size_if_there(path: Path) -> list[int]:
    """None where the stager renamed or removed the file since the folder was listed."""
    try:
        return [path.stat().st_size]
    except FileNotFoundError:
        return []


def test_digest_is_that_of_the_whole_folder(remote: tuple[TrainingShards, str]) -> None:
    local, url = remote
    assert RemoteDataset(url).digest == folder_digest(local.folder)


def feed(place: str, digest: str, cache: Path, **execution: object) -> LatentFeed:
    dataset = {"order": "blocks", "buffer_shards": 2}
    spec = TrainingSpecification(
        recipe=load_recipe(
            {"name": "x", "backbone": "PixArt-tiny", "images_total": 200, "learning_rate": 1.0, "batch_size": 6,
             "dataset": dataset}
        ),
        inputs={"dataset": digest},
    )  # fmt: skip
    values = {"input_paths": {"dataset": place}, "local_cache": str(cache), **execution}
    return LatentFeed(spec, Execution.model_validate(values), "cpu")


def test_a_staged_feed_gives_the_batches_of_a_local_one(
    remote: tuple[TrainingShards, str], tmp_path: Path
) -> None:
    local, url = remote
    digest = folder_digest(local.folder)
    limit = int(4.2 * shard_bytes(local))
    here, there = (
        feed(str(local.folder), digest, tmp_path),
        feed(url, digest, tmp_path, local_cache_gib=limit / 2**30),
    )
    cache = there.shards.folder
    largest = 0
    for start in [*range(0, 120, 6), 6, 90]:  # on through epochs, then back as a resumed run may
        batches = [f.load(f.build_order().draw(start, 6), 0.1) for f in (here, there)]
        first, second = ((b.latents, b.condition.states, b.condition.mask) for b in batches)
        assert all(np.array_equal(x.numpy(), y.numpy()) for x, y in zip(first, second, strict=True))
        assert np.array_equal(batches[0].captions, batches[1].captions)
        largest = max(largest, size_of(cache))
    assert 0 < largest <= limit
    assert (
        len(local.description.shards) * shard_bytes(local) > 1.3 * limit
    )  # it would not have fitted as a whole
    there.close()
    with pytest.raises(FoundryError, match="dataset has digest .* the specification names cccc"):
        feed(url, "c" * 64, tmp_path)


def test_next_shards_are_fetched_ahead_and_old_ones_removed(
    remote: tuple[TrainingShards, str], tmp_path: Path
) -> None:
    local, url = remote
    staging, reader = stager(url, tmp_path / "cache", 2 * shard_bytes(local))
    staging.require((0,), (1,))
    staging.wait((1,))  # nobody asked for it to be here now
    reader.latents(np.array([0, 8]))
    staging.require((2,), ())
    present = {path.name for path in (tmp_path / "cache").glob("latents-0*")}
    assert "latents-00002.npy" in present
    assert "latents-00000.npy" not in present
    with pytest.raises(FoundryError, match="was not staged yet"):
        reader.latents(np.array([0]))
    staging.close()


def test_what_does_not_fit_is_refused_by_name(remote: tuple[TrainingShards, str], tmp_path: Path) -> None:
    local, url = remote
    staging, _ = stager(url, tmp_path / "cache", shard_bytes(local))
    with pytest.raises(
        FoundryError, match="local_cache_gib allows .*; raise it, lower dataset.buffer_shards"
    ):
        staging.require((0, 1, 2))
    staging.close()


def test_damage_on_the_way_is_found(remote: tuple[TrainingShards, str], tmp_path: Path) -> None:
    _, url = remote
    files = fsspec.filesystem("memory")
    data = bytearray(files.cat_file("/bucket/data/latents-00001.npy"))
    data[-1] ^= 1
    files.pipe_file("/bucket/data/latents-00001.npy", bytes(data))
    staging, _ = stager(url, tmp_path / "cache", 2**30)
    staging.require((0,))
    with pytest.raises(FoundryError, match=r"latents-00001\.npy: cannot be staged, its sha256 differs"):
        staging.require((1,))
    assert not list((tmp_path / "cache").glob("*latents-00001*"))
    with pytest.raises(FoundryError, match=r"dataset\.json: cannot be read"):
        RemoteDataset("memory://bucket/nothing")


def test_what_a_killed_run_left_is_verified_and_used(
    remote: tuple[TrainingShards, str], tmp_path: Path
) -> None:
    local, url = remote
    root = tmp_path / "caches"
    folder, lock = claim_cache(root, "d" * 64)
    other, second = claim_cache(root, "d" * 64)
    assert other != folder  # two processes of one machine
    second.close()
    for name in local.description.shard_files(0):
        shutil.copyfile(local.folder / name, folder / name)
    (folder / "latents-00000.npy").write_bytes(b"half")
    lock.close()
    again, lock = claim_cache(root, "d" * 64)
    assert again == folder
    untouched = (folder / "sample_keys-00000.npy").stat().st_mtime_ns
    staging, reader = stager(url, folder, 2**30)
    staging.require((0,))
    assert np.array_equal(reader.latents(np.arange(8)), local.latents(np.arange(8)))
    assert (folder / "sample_keys-00000.npy").stat().st_mtime_ns == untouched
    staging.close()
    lock.close()


def test_threads_end_with_the_feed(remote: tuple[TrainingShards, str], tmp_path: Path) -> None:
    _, url = remote
    before = threading.active_count()
    staging, _ = stager(url, tmp_path / "cache", 2**30)
    thread = staging._thread
    del staging, _
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    assert threading.active_count() <= before
