"""Collecting garbage: which bytes nobody needs, shown first and removed only when told to.

Manifests stay for ever: a collected version is still in lineage and history, and reading it says when its bytes went.
"""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from assets.graph.steps import input_label
from assets.graph.versions import Manifest
from assets.versioning.impact import Impact, impact
from assets.versioning.subjects import find_subject
from orchestration.resources.files import FileFacts
from orchestration.resources.history import place_of
from orchestration.resources.pending import PENDING
from orchestration.resources.records import now
from orchestration.resources.store import ManifestStore
from orchestration.takedown import mark_models

KEEP_VERSIONS = 3
GRACE_SECONDS = 3600.0
STALE_PENDING_SECONDS = 7 * 86_400.0
Key = tuple[str, str]  # input label and digest


@dataclass(frozen=True)
class Rules:
    """What may go.

    The newest ``keep`` versions of everything stay, and so does what was replaced less than ``older_than_days`` ago.
    Nothing written less than ``grace_seconds`` ago is touched: a run may be about to use it. ``takedowns`` also lets
    old versions go that hold removed images, whoever refers to them.
    """

    keep: int = KEEP_VERSIONS
    older_than_days: float = 0.0
    grace_seconds: float = GRACE_SECONDS
    takedowns: bool = False


@dataclass(frozen=True)
class Collectable:
    """A version whose bytes may go: ``files`` are those that no version that stays shares."""

    manifest: Manifest
    files: tuple[str, ...]
    size_bytes: int
    because: str


@dataclass(frozen=True)
class Collection:
    """What a collection would remove. ``num_protected`` old versions stay because a kept model or data set needs them."""

    versions: list[Collectable]
    orphans: list[FileFacts]
    pending: list[FileFacts]
    num_protected: int

    @property
    def size_bytes(self) -> int:
        """Bytes that would be free."""
        loose = sum(facts.size_bytes for facts in [*self.orphans, *self.pending])
        return loose + sum(version.size_bytes for version in self.versions)


@dataclass(frozen=True)
class _Place:
    """Everything stored under one name and partition. ``versions`` are of distinct content, newest first."""

    name: str
    partition: str | None
    versions: tuple[Manifest, ...]
    replaced_at: dict[str, str]
    files: dict[str, FileFacts]
    current: str

    def key(self, manifest: Manifest) -> Key:
        return input_label(self.name, self.partition), manifest.digest


def plan_collection(store: ManifestStore, rules: Rules) -> Collection:
    """Decide what may go; changes nothing."""
    places = [_look(store, name, key) for name in store.names() for key in _keys(store, name)]
    by_key: dict[Key, list[Manifest]] = defaultdict(list)
    for place in places:
        for version in store.versions(place.name, place.partition):
            by_key[place.key(version)].append(version)
    newest = {key for place in places for key in _newest(place, rules)}
    protected = _closure(newest, by_key)
    unwanted = _holding_removed(store) if rules.takedowns else {}
    current = {(input_label(place.name, place.partition), place.current) for place in places}
    reasons = {
        key: "superseded"
        for place in places
        for key in map(place.key, place.versions)
        if key not in protected
    }
    reasons.update({key: because for key, because in unwanted.items() if key not in current})
    versions = [found for place in places for found in _collectable(place, reasons, rules)]
    gone = {path for version in versions for path in version.files}
    young = time.time() - rules.grace_seconds
    orphans = [
        facts
        for place in places
        for facts in _orphans(place)
        if facts.path not in gone and facts.modified_at < young
    ]
    pending = _stale_pending(store)
    return Collection(versions, orphans, pending, len(protected - newest - set(unwanted)))


def collect(store: ManifestStore, collection: Collection, rules: Rules) -> int:
    """Remove what was planned; returns the bytes that are free now.

    A version that became the newest again in the meantime stays, and so does a file that was written since. With
    ``rules.takedowns`` models of removed images are marked first: old bytes are what tells who they are.
    """
    freed = 0
    if rules.takedowns:
        for effect in _effects_of_removals(store):
            mark_models(store, effect)
    for version in collection.versions:
        manifest = version.manifest
        current = store.current(manifest.name, manifest.partition)
        if current is not None and current.digest == manifest.digest:
            continue
        record = {"when": now(), "because": version.because, "bytes": version.size_bytes}
        store.files.write(store.collected_path(manifest), json.dumps(record, indent=1).encode())
        freed += _remove(store, version.files, rules.grace_seconds)
    freed += _remove(store, [facts.path for facts in collection.orphans], rules.grace_seconds)
    return freed + _remove(store, [facts.path for facts in collection.pending], rules.grace_seconds)


def _remove(store: ManifestStore, paths: Iterable[str], grace_seconds: float) -> int:
    freed = 0
    for path in paths:
        facts = store.files.facts(path)
        if facts is not None and facts.modified_at <= time.time() - grace_seconds:
            store.files.remove(path)
            freed += facts.size_bytes
    return freed


def _keys(store: ManifestStore, name: str) -> list[str | None]:
    return [*store.partitions(name)] or [None]


def _look(store: ManifestStore, name: str, partition: str | None) -> _Place:
    history = store.versions(name, partition)
    replaced_at: dict[str, str] = {}
    for before, after in itertools.pairwise(history):
        if before.digest != after.digest:
            replaced_at[before.digest] = after.created_at
    current = store.current(name, partition)
    distinct = {version.digest: version for version in reversed(history) if store.collected(version) is None}
    files = {
        facts.path: facts for facts in store.files.walk(place_of(name, partition)) if _is_content(facts.path)
    }
    digest = "" if current is None else current.digest
    return _Place(name, partition, tuple(distinct.values()), replaced_at, files, digest)


def _is_content(path: str) -> bool:
    """Whether a file is a version's content or what an interrupted write left, and no manifest or record."""
    folder, name = path.split("/")[2], path.rpartition("/")[2]
    return folder in ("files", "folders") or (name.startswith(".") and name.endswith(".tmp"))


def _newest(place: _Place, rules: Rules) -> list[Key]:
    """Versions that stay for being current, among the newest, or replaced only lately."""
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=rules.older_than_days)
    kept = []
    for index, version in enumerate(place.versions):
        replaced = place.replaced_at.get(version.digest)
        lately = replaced is not None and datetime.datetime.fromisoformat(replaced) > since
        if version.digest == place.current or index < max(rules.keep, 1) or lately:
            kept.append(place.key(version))
    return kept


def _closure(kept: set[Key], by_key: dict[Key, list[Manifest]]) -> set[Key]:
    """Kept versions, and all that kept models and data sets were made from, however many steps back."""
    followed: set[Key] = set()
    waiting = [key for key in kept if any(version.kind == "folder" for version in by_key[key])]
    while waiting:
        key = waiting.pop()
        if key in followed or key not in by_key:
            continue
        followed.add(key)
        for version in by_key[key]:
            waiting.extend(version.provenance.inputs.items())
    return kept | followed


def _effects_of_removals(store: ManifestStore) -> Iterator[Impact]:
    for image_id in sorted(store.takedowns()):
        yield impact(store, find_subject(store, image_id))


def _holding_removed(store: ManifestStore) -> dict[Key, str]:
    """Stored versions that hold a removed image, with the sentence that says so."""
    found: dict[Key, str] = {}
    for effect in _effects_of_removals(store):
        because = f"held image {effect.subject.image_id[:12]}, which was removed"
        for holding in effect.holdings:
            found[(input_label(holding.name, holding.partition), holding.digest)] = because
    return found


def _collectable(place: _Place, reasons: dict[Key, str], rules: Rules) -> list[Collectable]:
    staying = {
        file.path for version in place.versions if place.key(version) not in reasons for file in version.files
    }
    young = time.time() - rules.grace_seconds
    found = []
    claimed: set[str] = set()
    for version in place.versions:
        because = reasons.get(place.key(version))
        if because is None:
            continue
        paths = [file.path for file in version.files if file.path not in staying and file.path not in claimed]
        facts = [place.files[path] for path in dict.fromkeys(paths) if path in place.files]
        if any(each.modified_at > young for each in facts):
            continue
        claimed.update(paths)
        size_bytes = sum(each.size_bytes for each in facts)
        found.append(Collectable(version, tuple(each.path for each in facts), size_bytes, because))
    return found


def _orphans(place: _Place) -> Sequence[FileFacts]:
    """Files that no version with bytes refers to: left by a write that was interrupted, or by a collection."""
    known = {file.path for version in place.versions for file in version.files}
    return [facts for path, facts in place.files.items() if path not in known]


def _stale_pending(store: ManifestStore) -> list[FileFacts]:
    """Journals of runs that nobody has gone on with for a week."""
    old = time.time() - STALE_PENDING_SECONDS
    folders: dict[str, list[FileFacts]] = defaultdict(list)
    for facts in store.files.walk(PENDING):
        folders[facts.path.rpartition("/")[0]].append(facts)
    return [
        facts
        for found in folders.values()
        if max(each.modified_at for each in found) < old
        for facts in found
    ]
