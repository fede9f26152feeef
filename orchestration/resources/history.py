"""What is stored and what ever was: manifests, the pointer to the newest one, and versions whose bytes are gone."""

from __future__ import annotations

import json
from typing import Any

from assets.graph.versions import Manifest
from orchestration.resources.files import Files, StoreError
from orchestration.resources.manifests import from_json, provenance_key, to_json
from orchestration.resources.records import stamp

NO_PARTITION = "_"


class History:
    """The manifests of one store. Every swap of the pointer keeps its own: any state there ever was can be found."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def names(self) -> list[str]:
        """Names of everything stored, sorted."""
        return [name for name in self.files.children("") if not name.startswith(("_", "."))]

    def partitions(self, name: str) -> list[str]:
        """Partition keys of ``name`` that have a version, sorted."""
        keys = [key for key in self.files.children(name) if key != NO_PARTITION]
        return [key for key in keys if self.files.exists(f"{name}/{key}/current.json")]

    def current(self, name: str, partition: str | None = None) -> Manifest | None:
        """Newest version, or None when there is none. Raises StoreError on an unreadable manifest."""
        path = f"{place_of(name, partition)}/current.json"
        if not self.files.exists(path):
            return None
        try:
            return from_json(self.files.read(path))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.files.address(path)} is not a manifest ({error}). Every earlier manifest is kept in the "
                "folder versions/ beside it: copy the newest one over it, or materialize the asset again."
            ) from error

    def versions(self, name: str, partition: str | None = None) -> list[Manifest]:
        """Every version there ever was, oldest first."""
        folder = f"{place_of(name, partition)}/versions"
        names = [name for name in self.files.children(folder) if name.endswith(".json") and name[0] != "."]
        found = [from_json(data) for data in self.files.read_many([f"{folder}/{name}" for name in names])]
        return sorted(found, key=lambda manifest: manifest.created_at)

    def require(self, name: str, partition: str | None = None, *, require_gate: bool = False) -> Manifest:
        """Newest version; raises StoreError when it is missing or when its gate failed or never ran."""
        manifest = self.current(name, partition)
        label = label_of(name, partition)
        if manifest is None:
            raise StoreError(f"{label} has not been materialized yet. Materialize it first.")
        if require_gate and (manifest.gate is None or not manifest.gate.passed):
            findings = (
                "its gate never ran"
                if manifest.gate is None
                else f"its gate failed: {dict(manifest.gate.findings)}"
            )
            raise StoreError(
                f"{label} is refused because {findings}. Mend what the checks on its asset page name, "
                "materialize it again, and then this."
            )
        return manifest

    def check_stored(self, manifest: Manifest) -> None:
        """Raise StoreError, saying when and why, where a version's bytes were collected."""
        record = self.collected(manifest)
        if record is not None:
            raise StoreError(
                f"Version {manifest.digest[:12]} of {label_of(manifest.name, manifest.partition)} was collected on "
                f"{record['when'][:19]} ({record['because']}): its bytes are gone, its manifest stays in the history. "
                "Read a version that `foundry versions` shows as stored, or materialize it again."
            )

    def collected(self, manifest: Manifest) -> dict[str, Any] | None:
        """When and why a version's bytes were removed (``when``, ``because``); None where they were not."""
        path = self.collected_path(manifest)
        return json.loads(self.files.read(path)) if self.files.exists(path) else None

    def collected_path(self, manifest: Manifest) -> str:
        """Where the removal of a version's bytes is written down."""
        return f"{place_of(manifest.name, manifest.partition)}/collected/{manifest.digest}.json"

    def swap(self, manifest: Manifest) -> Manifest:
        """Make a version the newest one: the one place where that happens."""
        place = place_of(manifest.name, manifest.partition)
        self.files.remove(self.collected_path(manifest))
        key = f"{stamp(manifest.created_at)}-{manifest.digest[:16]}-{provenance_key(manifest.provenance)[:8]}"
        self.files.write(f"{place}/versions/{key}.json", to_json(manifest))
        self.files.write(f"{place}/current.json", to_json(manifest))
        return manifest


def place_of(name: str, partition: str | None) -> str:
    """Folder of a name and partition below the store's root."""
    return f"{name}/{NO_PARTITION if partition is None else partition}"


def label_of(name: str, partition: str | None) -> str:
    """How a sentence names a version."""
    return f"'{name}'" if partition is None else f"'{name}' (partition '{partition}')"
