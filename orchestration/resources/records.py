"""What people decided, beside what was computed: small JSON files that are only ever added.

Every decision is a file of its own, written once, so two processes cannot lose one another's; undoing is one more.
All lie below ``_records/`` in the store's root::

    accepted/<asset>/<when>-<id>.json          rows of an old function version declared equivalent
    takedowns/<image_id>/<when>-<action>.json  an image is removed, or allowed again
    marks/<name>/<partition>/<digest>/<image_id>.json   a model that was trained on a removed image
"""

from __future__ import annotations

import datetime
import getpass
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestration.resources.files import Files, StoreError
from training.digests import canonical_json, sha256_bytes

RECORDS = "_records"


@dataclass(frozen=True)
class Acceptance:
    """Rows of ``version`` of an asset's function were declared equivalent to those of ``equivalent_to``, or no longer."""

    asset: str
    version: int
    equivalent_to: int
    because: str
    who: str
    when: str
    undo: bool = False


@dataclass(frozen=True)
class Takedown:
    """An image was removed, or (``undo``) allowed again."""

    image_id: str
    because: str
    who: str
    when: str
    undo: bool = False


@dataclass(frozen=True)
class Mark:
    """A version was trained on an image that has since been removed."""

    name: str
    partition: str | None
    digest: str
    image_id: str
    sample_ids: tuple[str, ...]
    when: str


class Records:
    """Reads and adds the decisions of one store."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def accept(self, record: Acceptance) -> None:
        """Log that old rows are equivalent, or that this no longer holds."""
        self._add(f"accepted/{record.asset}/{_name(asdict(record))}", asdict(record))

    def acceptances(self, asset: str) -> list[Acceptance]:
        """Every declaration about an asset there ever was, oldest first."""
        return [Acceptance(**raw) for raw in self._read(f"accepted/{asset}")]

    def equivalents(self, asset: str, todays_version: int | None) -> frozenset[int]:
        """Versions equivalent to today's by declarations that still stand, also by way of another version.

        ``todays_version`` None stands for the newest version that anything was declared equivalent to.
        """
        standing: dict[tuple[int, int], bool] = {}
        for record in self.acceptances(asset):
            standing[(record.version, record.equivalent_to)] = not record.undo
        pairs = {pair for pair, stands in standing.items() if stands}
        if not pairs:
            return frozenset()
        today = max(new for _, new in pairs) if todays_version is None else todays_version
        equal = {today}
        while more := {old for old, new in pairs if new in equal} - equal:
            equal |= more
        return frozenset(equal - {today})

    def take_down(self, record: Takedown) -> None:
        """Log that an image is removed, or allowed again."""
        action = "allow" if record.undo else "remove"
        self._add(f"takedowns/{record.image_id}/{stamp(record.when)}-{action}", asdict(record))

    def takedowns(self) -> frozenset[str]:
        """Images that are removed today."""
        events = self._files.walk(f"{RECORDS}/takedowns")
        last: dict[str, str] = {}
        for facts in events:  # sorted by path, so by image and then by time
            *_, image_id, name = facts.path.split("/")
            last[image_id] = name
        return frozenset(image_id for image_id, name in last.items() if name.endswith("-remove.json"))

    def mark(self, record: Mark) -> None:
        """Log that a version was trained on a removed image."""
        self._add(
            f"{_mark_folder(record.name, record.partition)}/{record.digest}/{record.image_id}", asdict(record)
        )

    def marks(self, name: str, partition: str | None, digest: str) -> list[Mark]:
        """Marks on one version whose images are still removed, by image."""
        raws = self._read(f"{_mark_folder(name, partition)}/{digest}")
        removed = self.takedowns() if raws else frozenset()
        marks = [Mark(**{**raw, "sample_ids": tuple(raw["sample_ids"])}) for raw in raws]
        return sorted((mark for mark in marks if mark.image_id in removed), key=lambda mark: mark.image_id)

    def _add(self, path: str, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
        self._files.write(f"{RECORDS}/{path}.json", text.encode())

    def _read(self, folder: str) -> list[dict[str, Any]]:
        """JSON objects of a folder in order of file name, which begins with the time where order matters."""
        found = []
        for name in self._files.children(f"{RECORDS}/{folder}"):
            path = f"{RECORDS}/{folder}/{name}"
            if not name.endswith(".json") or name.startswith("."):
                continue
            try:
                found.append(json.loads(self._files.read(path)))
            except ValueError as error:
                raise StoreError(
                    f"{self._files.address(path)} is not readable JSON ({error}). Restore the file, or delete it to "
                    "forget this one decision."
                ) from error
        return found


def now() -> str:
    """This moment as ISO time in UTC, to the microsecond; such texts sort by time."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def current_user() -> str:
    """Login name of whoever runs the command, ``unknown`` where the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _mark_folder(name: str, partition: str | None) -> str:
    return f"marks/{name}/{'_' if partition is None else partition}"


def stamp(when: str) -> str:
    """An ISO time in UTC as part of a file name; such names sort by time."""
    return when.replace(":", "").replace("+0000", "Z")


def _name(value: Mapping[str, Any]) -> str:
    return f"{stamp(value['when'])}-{sha256_bytes(canonical_json(value).encode())[:8]}"
