"""What a person may point at (a picture, a sample, a file on disk) and the ids by which tables know it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assets.encodings.text import text_id
from assets.graph.interfaces import Store
from assets.graph.versions import Manifest
from training.digests import sha256_file
from training.errors import FoundryError

_PREFIX = re.compile(r"^[0-9a-f]{6,64}$")
_COLUMNS = ["sample_id", "image_id", "source", "key", "split", "alt_text"]


@dataclass(frozen=True)
class Subject:
    """An image with all its samples, or one sample alone, and what was derived from them.

    ``is_image`` says whether the image as a whole is meant. ``partitions`` are the shard groups it landed in.
    """

    image_id: str
    is_image: bool
    sample_ids: frozenset[str] = frozenset()
    text_ids: frozenset[str] = frozenset()
    entity_ids: frozenset[str] = frozenset()
    splits: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()
    partitions: frozenset[str | None] = frozenset()

    @property
    def is_known(self) -> bool:
        """Whether it ever landed."""
        return bool(self.sample_ids)


def stored_versions(store: Store, name: str, partition: str | None) -> Iterator[Manifest]:
    """Versions of distinct content whose bytes are there, newest first."""
    seen: set[str] = set()
    for version in reversed(store.versions(name, partition)):
        if version.digest not in seen and store.collected(version) is None:
            seen.add(version.digest)
            yield version


def keys_of(store: Store, name: str) -> list[str | None]:
    """Partitions of what is stored under ``name``, ``[None]`` for an unpartitioned one."""
    return [*store.partitions(name)] or [None]


def find_subject(store: Store, argument: str) -> Subject:
    """The image or sample that ``argument`` means: an image file, an id or six of its first digits, or source/key.

    Raises FoundryError when nothing or more than one thing is meant.
    """
    path = Path(argument)
    if path.is_file():
        return _subject(store, sha256_file(path), None)
    found = _landed(store, argument)
    if len(argument) == 64 and not found and _PREFIX.match(argument):
        return Subject(argument, is_image=True)
    images = {image for image, sample in found if sample is None}
    samples = {(image, sample) for image, sample in found if sample is not None}
    if len(images) + len(samples) == 1:
        return _subject(store, *next(iter(found)))
    if not found:
        raise FoundryError(
            f"'{argument}' is neither an image file here nor anything that landed. Give the path of the image file, "
            "at least 6 digits of an image_id or sample_id, or source/key."
        )
    shown = ", ".join(sorted([*images, *(sample for _, sample in samples if sample)])[:6])
    raise FoundryError(f"'{argument}' could mean {len(found)} things: {shown}. Give more digits.")


def _landed(store: Store, argument: str) -> set[tuple[str, str | None]]:
    """(image, sample) that match; sample is None where the image as a whole was named."""
    if "/" in argument:
        source, _, key = argument.partition("/")
        rows = _landed_rows(store, (pc.field("source") == source) & (pc.field("key") == key))
        return {(row["image_id"], row["sample_id"]) for row, _ in rows}
    if not _PREFIX.match(argument):
        return set()
    matches = {name: pc.starts_with(pc.field(name), argument) for name in ("image_id", "sample_id")}
    found: set[tuple[str, str | None]] = set()
    for row, _ in _landed_rows(store, matches["image_id"] | matches["sample_id"]):
        if row["image_id"].startswith(argument):
            found.add((row["image_id"], None))
        if row["sample_id"].startswith(argument):
            found.add((row["image_id"], row["sample_id"]))
    return found


def _landed_rows(store: Store, which: pc.Expression) -> Iterator[tuple[dict[str, str], str | None]]:
    """Rows of any version of ``landed_images`` that pass the filter, each with its shard group."""
    if "landed_images" not in store.names():
        return
    for partition in keys_of(store, "landed_images"):
        for version in stored_versions(store, "landed_images", partition):
            for row in store.scan(version, verify=False).to_table(_COLUMNS, filter=which).to_pylist():
                yield row, partition


def _subject(store: Store, image_id: str, sample_id: str | None) -> Subject:
    column, value = ("image_id", image_id) if sample_id is None else ("sample_id", sample_id)
    rows = list(_landed_rows(store, pc.field(column) == value))
    sample_ids = frozenset(row["sample_id"] for row, _ in rows)
    partitions = frozenset(partition for _, partition in rows)
    captions = [row["alt_text"] for row, _ in rows]
    captions += _values(store, "recaptions", "caption", sample_ids, partitions)
    return Subject(
        image_id,
        sample_id is None,
        sample_ids,
        frozenset(text_id(caption) for caption in captions),
        frozenset(_values(store, "entity_annotations", "entity_id", sample_ids, partitions)),
        frozenset(row["split"] for row, _ in rows),
        tuple(sorted({f"{row['source']}/{row['key']}" for row, _ in rows})),
        partitions,
    )


def _values(
    store: Store, name: str, column: str, sample_ids: Iterable[str], partitions: Iterable[str | None]
) -> list[str]:
    """A column's values for some samples, in any stored version of a table partitioned as landed images are."""
    found: set[str] = set()
    for partition in partitions:
        for version in stored_versions(store, name, partition):
            scan = store.scan(version, verify=False)
            found.update(
                scan.to_table([column], filter=is_one_of("sample_id", sample_ids))[column].to_pylist()
            )
    return sorted(found)


def is_one_of(column: str, values: Iterable[str]) -> pc.Expression:
    """An Arrow filter: the column is one of the values."""
    return pc.field(column).isin(pa.array(sorted(values), pa.string()))
