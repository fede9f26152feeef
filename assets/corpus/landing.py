"""From a landing folder to rows: list the shards, read each, keep what is usable and say why the rest is not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.corpus.identity import shard_group
from assets.corpus.image_io import MAX_PIXELS
from assets.corpus.raw_samples import FILE_POSITION, RawSample, admit, quarantine_row
from assets.corpus.readers import read_parquet, read_tar
from assets.corpus.shard_files import QUARANTINE_FILE
from assets.graph.interfaces import Landing
from assets.graph.schemas import LANDED_IMAGES, QUARANTINE
from training.digests import sha256_file
from training.errors import FoundryError

__all__ = [
    "LandedBatch",
    "LandedBefore",
    "Shard",
    "group_shards",
    "land_group",
    "land_shard",
    "list_shards",
    "read_quarantine",
    "read_shard",
    "shard_group",
]

_FORMATS = {".parquet": "parquet", ".tar": "tar", ".tar.gz": "tar", ".tgz": "tar"}
REMOVED = "removed"
_BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Shard:
    """One file of a landing folder: format ``parquet`` or ``tar``, or ``quarantine`` for what an import set aside.

    ``stamp`` (size, time of writing, inode) changes when the file is written and costs no reading.
    """

    name: str
    path: Path
    format: str
    stamp: str

    @property
    def sha256(self) -> str:
        """Digest of the file's bytes, read once for as long as the file stays untouched.

        Raises FoundryError when the file has vanished.
        """
        return _digest(self.path, self.stamp)


@dataclass(frozen=True)
class LandedBatch:
    """Rows of LANDED_IMAGES and rows of QUARANTINE."""

    images: pa.Table
    quarantined: pa.Table


def list_shards(landing_folder: Path) -> list[Shard]:
    """Shards in a landing folder, sorted by name (path relative to the folder); hidden files are still being written.

    An absent folder has no shards. Raises FoundryError when the folder is a file.
    """
    if landing_folder.exists() and not landing_folder.is_dir():
        raise FoundryError(
            f"{landing_folder}: is a file, a landing folder was expected; move the file into one."
        )
    shards = []
    for path in sorted(landing_folder.rglob("*")):
        relative = path.relative_to(landing_folder)
        kind = shard_format(path)
        hidden = any(part.startswith((".", "_")) for part in relative.parts)
        if kind is None or hidden or not path.is_file():
            continue
        status = path.stat()
        stamp = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
        shards.append(Shard(relative.as_posix(), path, kind, stamp))
    return shards


def group_shards(landing: Landing, group_key: str) -> list[Shard]:
    """Shards of one group, sorted by name. Raises FoundryError for a key that is not one of the landing's groups."""
    if group_key not in landing.group_keys:
        raise FoundryError(
            f"shard group {group_key!r} does not exist; allowed are {', '.join(landing.group_keys)}."
        )
    number, num_groups = landing.group_keys.index(group_key), len(landing.group_keys)
    shards = list_shards(landing.folder)
    return [shard for shard in shards if shard_group(shard.name, num_groups) == number]


@dataclass(frozen=True)
class LandedBefore:
    """A group as it was landed the last time: its rows, and the digest of every shard that they came from."""

    rows: LandedBatch
    shards: Mapping[str, str]


def land_group(
    landing: Landing,
    group_key: str,
    max_pixels: int = MAX_PIXELS,
    before: LandedBefore | None = None,
    removed: Collection[str] = (),
) -> tuple[pa.Table, pa.Table]:
    """Rows of LANDED_IMAGES and of QUARANTINE of all shards of one group. Raises as :func:`group_shards` does.

    Rows of shards that have not changed since ``before`` are taken from there. Images whose ``image_id`` is in
    ``removed`` (taken down) go to quarantine, whichever shard holds them.
    """
    batches = [
        _unchanged(shard, before) or land_shard(shard, landing.source, max_pixels)
        for shard in group_shards(landing, group_key)
    ]
    images = pa.concat_tables([LANDED_IMAGES.empty_table(), *(batch.images for batch in batches)])
    quarantined = pa.concat_tables([QUARANTINE.empty_table(), *(batch.quarantined for batch in batches)])
    taken_down = pc.is_in(images["image_id"], value_set=pa.array(sorted(removed), pa.string()))
    set_aside = [_removed_row(row) for row in images.filter(taken_down).drop_columns("image").to_pylist()]
    return (
        images.filter(pc.invert(taken_down)),
        pa.concat_tables([quarantined, pa.Table.from_pylist(set_aside, schema=QUARANTINE)]),
    )


def _unchanged(shard: Shard, before: LandedBefore | None) -> LandedBatch | None:
    """A shard's rows of the last time, if its bytes are the same and nothing of it was taken down then."""
    if before is None or shard.format == "quarantine" or before.shards.get(shard.name) != shard.sha256:
        return None
    quarantined = before.rows.quarantined.filter(pc.equal(before.rows.quarantined["shard"], shard.name))
    if REMOVED in quarantined["reason"].to_pylist():
        return None  # it is read again, so that an undone removal brings its images back
    images = before.rows.images
    return LandedBatch(images.filter(pc.equal(images["shard"], shard.name)), quarantined)


def _removed_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": row["source"],
        "shard": row["shard"],
        "position": FILE_POSITION,
        "key": row["key"],
        "reason": REMOVED,
        "detail": f"image {row['image_id']} was taken down",
    }


def shard_format(path: Path) -> str | None:
    """``parquet``, ``tar`` or ``quarantine`` by the file's name, None for anything else."""
    if path.name == QUARANTINE_FILE:
        return "quarantine"
    return next((kind for suffix, kind in _FORMATS.items() if path.name.lower().endswith(suffix)), None)


def read_shard(
    shard: Shard, source: str, max_pixels: int = MAX_PIXELS, batch_rows: int = 256
) -> Iterator[LandedBatch]:
    """Judge a shard's samples in batches of at most ``batch_rows`` rows or 64 MiB of images.

    Nothing in the file raises: a broken image, a missing text, an image above ``max_pixels``, a truncated or
    unreadable file become rows of the quarantine table, and the rest goes on.
    """
    if shard.format == "quarantine":
        yield LandedBatch(LANDED_IMAGES.empty_table(), read_quarantine(shard.path.parent))
        return
    images: list[dict[str, Any]] = []
    quarantined: list[dict[str, Any]] = []
    num_bytes = 0
    seen: set[str] = set()
    for sample in read_samples(shard.path, shard.format, shard.name):
        row, rejected = admit(sample, source, shard.name, max_pixels)
        if row is not None and row["sample_id"] in seen:
            problem = "duplicate_key", "the same image with the same key stands earlier in this file"
            row, rejected = None, quarantine_row(source, shard.name, sample, problem)
        if row is not None:
            seen.add(row["sample_id"])
            images.append(row)
            num_bytes += len(row["image"])
        if rejected is not None:
            quarantined.append(rejected)
        if len(images) + len(quarantined) >= batch_rows or num_bytes >= _BATCH_BYTES:
            yield _batch(images, quarantined)
            images, quarantined, num_bytes = [], [], 0
    if images or quarantined:
        yield _batch(images, quarantined)


def land_shard(shard: Shard, source: str, max_pixels: int = MAX_PIXELS) -> LandedBatch:
    """All rows of one shard at once; a shard is small enough to be held."""
    batches = list(read_shard(shard, source, max_pixels))
    return LandedBatch(
        pa.concat_tables([LANDED_IMAGES.empty_table(), *(batch.images for batch in batches)]),
        pa.concat_tables([QUARANTINE.empty_table(), *(batch.quarantined for batch in batches)]),
    )


def read_samples(path: Path, kind: str, name: str) -> Iterator[RawSample]:
    """Samples of a shard file of format ``parquet`` or ``tar``, problems included.

    ``name`` is the file's name inside its source; samples without a key of their own are called after it.
    """
    if not path.is_file():
        return iter([RawSample(FILE_POSITION, problem=("unreadable", "the file has vanished"))])
    return read_parquet(path, name) if kind == "parquet" else read_tar(path, name)


def read_quarantine(landing_folder: Path) -> pa.Table:
    """What an import set aside (rows of QUARANTINE), empty when nothing or when no import made the folder.

    Raises FoundryError when the file is damaged.
    """
    path = landing_folder / QUARANTINE_FILE
    if not path.exists():
        return QUARANTINE.empty_table()
    try:
        return pq.read_table(path).select(QUARANTINE.names).cast(QUARANTINE)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FoundryError(f"{path}: is damaged ({error}). Import the source again.") from error


def _batch(images: list[dict[str, Any]], quarantined: list[dict[str, Any]]) -> LandedBatch:
    return LandedBatch(
        pa.Table.from_pylist(images, schema=LANDED_IMAGES),
        pa.Table.from_pylist(quarantined, schema=QUARANTINE),
    )


@lru_cache(maxsize=4096)
def _digest(path: Path, stamp: str) -> str:
    """A file's digest; ``stamp`` makes a rewritten file a new question."""
    return sha256_file(path)
