"""Names of versions that a person can type, and the versions that they mean."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assets.graph.interfaces import Store
from assets.graph.steps import input_label
from assets.graph.versions import Manifest
from training.errors import FoundryError

WORDS = ("current", "previous", "first")
_DIGEST = re.compile(r"^[0-9a-f]{6,64}$")
State = Literal["current", "stored", "collected"]


@dataclass(frozen=True)
class KnownVersion:
    """One entry of a history. ``state`` says whether its bytes are there; ``words`` are names it answers to."""

    manifest: Manifest
    state: State
    words: tuple[str, ...]


def parse_time(text: str) -> datetime.datetime | None:
    """An ISO date or time, UTC where it says nothing else; None when the text is neither."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=datetime.UTC)


def resolve(store: Store, name: str, partition: str | None, reference: str) -> Manifest:
    """The version that ``reference`` means: a digest's first six or more digits, a word of WORDS, or an ISO time.

    ``previous`` is the newest version before the current one whose content differs. A time means what was current
    then. Raises FoundryError that says what there is.
    """
    found = find(store, name, partition, reference)
    if found is not None:
        return found
    label = input_label(name, partition)
    history = store.versions(name, partition)
    if not history:
        raise FoundryError(
            f"There is no version of '{label}'. Materialize it first, or see `foundry versions`."
        )
    digests = list(dict.fromkeys(version.digest[:12] for version in reversed(history)))
    shown = ", ".join(digests[:5]) + (f" and {len(digests) - 5} older" if len(digests) > 5 else "")
    raise FoundryError(
        f"'{reference}' is no version of '{label}'. Give {', '.join(WORDS)}, an ISO time not before "
        f"{history[0].created_at[:19]}, or at least 6 digits of a digest: {shown}."
    )


def find(store: Store, name: str, partition: str | None, reference: str) -> Manifest | None:
    """As :func:`resolve`, but None where there is no such version. Raises FoundryError for an ambiguous digest."""
    if reference == "current":
        return store.current(name, partition)
    history = store.versions(name, partition)
    if reference == "first":
        return history[0] if history else None
    if reference == "previous":
        return previous_of(history, store.current(name, partition))
    if _DIGEST.match(reference):
        found = {version.digest: version for version in history if version.digest.startswith(reference)}
        if len(found) > 1:
            raise FoundryError(
                f"'{reference}' is the beginning of {len(found)} versions of '{input_label(name, partition)}': "
                f"{', '.join(digest[:16] for digest in found)}. Give more digits."
            )
        if found:
            return next(iter(found.values()))
    when = parse_time(reference)
    return None if when is None else _as_of(history, when)


def previous_of(history: Sequence[Manifest], current: Manifest | None) -> Manifest | None:
    """The newest version before the current one whose content differs from it."""
    if current is None:
        return None
    before = [
        version
        for version in history
        if version.created_at < current.created_at and version.digest != current.digest
    ]
    return before[-1] if before else None


def _as_of(history: Sequence[Manifest], when: datetime.datetime) -> Manifest | None:
    before = [version for version in history if datetime.datetime.fromisoformat(version.created_at) <= when]
    return before[-1] if before else None


def partition_keys(store: Store, name: str) -> list[str | None]:
    """Partitions of what is stored under ``name``, ``[None]`` for an unpartitioned one.

    Raises FoundryError that lists the names when there is no such thing.
    """
    if name not in store.names():
        raise FoundryError(
            f"There is no table or folder '{name}' in the store. Known: {', '.join(store.names()) or 'nothing yet'}."
        )
    return [*store.partitions(name)] or [None]


def check_partition(store: Store, name: str, partition: str | None) -> list[str | None]:
    """The partitions that are meant: the one that was named, else all. Raises FoundryError for an unknown one."""
    keys = partition_keys(store, name)
    if partition is None:
        return keys
    if partition not in keys:
        known = ", ".join(key for key in keys if key is not None) or "none"
        raise FoundryError(f"'{name}' has no partition '{partition}'; it has: {known}.")
    return [partition]


def known_versions(store: Store, name: str, partition: str | None = None) -> list[KnownVersion]:
    """The history of ``name``, newest first, of one partition or of all."""
    found = []
    for key in check_partition(store, name, partition):
        history, current = store.versions(name, key), store.current(name, key)
        previous = previous_of(history, current)
        for version in history:
            named = {"current": current, "previous": previous, "first": history[0]}
            words = tuple(word for word, other in named.items() if other == version)
            found.append(KnownVersion(version, state_of(store, version, current), words))
    return sorted(found, key=lambda known: known.manifest.created_at, reverse=True)


def state_of(store: Store, version: Manifest, current: Manifest | None) -> State:
    """Whether a version is the current one, and if not, whether its bytes are still there."""
    if current is not None and version.digest == current.digest:
        return "current"
    return "collected" if store.collected(version) is not None else "stored"


def version_record(known: KnownVersion) -> dict[str, Any]:
    """One line of ``foundry versions``."""
    manifest = known.manifest
    return {
        "partition": manifest.partition,
        "version": manifest.digest,
        "made": manifest.created_at,
        "state": known.state,
        "also called": ", ".join(known.words),
        "rows": manifest.num_rows,
        "files": len(manifest.files),
        "bytes": sum(file.size_bytes for file in manifest.files),
        "function version": manifest.provenance.function_version,
        "gate": None if manifest.gate is None else ("passed" if manifest.gate.passed else "failed"),
    }
