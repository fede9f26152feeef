"""The store: immutable, content-named versions of tables and folders, and a pointer swapped atomically.

Layout below the root, for a name and partition (``_`` where there is none)::

    <name>/<partition>/current.json          the newest manifest
    <name>/<partition>/versions/<key>.json   every manifest there ever was
    <name>/<partition>/files/<sha256>.parquet, <name>/<partition>/folders/<digest>/...
"""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assets.interfaces import GateResult, Manifest, Provenance, StoredFile
from orchestration.resources.files import Files, StoreError
from orchestration.resources.manifests import content_digest, from_json, provenance_key, to_json
from training.digests import OUTSIDE_MODEL_DIGEST, sha256_file

NO_PARTITION = "_"


class ManifestStore:
    """Implements :class:`assets.interfaces.Store` on a local folder or any fsspec URL.

    Every byte is checked against its manifest before it is used; a file that was checked once by this process
    and has not changed since (same size and time) is not read again for that.
    """

    def __init__(self, root: str | Path) -> None:
        self.files = Files(str(root))
        self._verified: set[tuple[str, int, int]] = set()

    # -- what is there ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Names of everything stored, sorted."""
        return self.files.children("")

    def partitions(self, name: str) -> list[str]:
        """Partition keys of ``name`` that have a version, sorted."""
        keys = [key for key in self.files.children(name) if key != NO_PARTITION]
        return [key for key in keys if self.files.exists(f"{name}/{key}/current.json")]

    def current(self, name: str, partition: str | None = None) -> Manifest | None:
        """Newest version, or None when there is none. Raises StoreError on an unreadable manifest."""
        path = f"{_place(name, partition)}/current.json"
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
        folder = f"{_place(name, partition)}/versions"
        found = [from_json(self.files.read(f"{folder}/{child}")) for child in self.files.children(folder)]
        return sorted(found, key=lambda manifest: manifest.created_at)

    def require(self, name: str, partition: str | None = None, *, require_gate: bool = False) -> Manifest:
        """Newest version; raises StoreError when it is missing or when its gate failed or never ran."""
        manifest = self.current(name, partition)
        label = _label(name, partition)
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

    # -- tables ----------------------------------------------------------------------------------------

    def read_table(
        self,
        name: str,
        partition: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        require_gate: bool = False,
    ) -> pa.Table:
        """Rows of the newest version, bytes verified. Raises StoreError when missing, damaged or gated."""
        manifest = self.require(name, partition, require_gate=require_gate)
        return pa.concat_tables([self._read_parquet(manifest, file, columns) for file in manifest.files])

    def read_all(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of all partitions (or of the unpartitioned table), in order of partition key."""
        keys: list[str | None] = [*self.partitions(name)] or [None]
        return pa.concat_tables([self.read_table(name, key, columns) for key in keys])

    def write_table(
        self,
        name: str,
        table: pa.Table,
        provenance: Provenance,
        partition: str | None = None,
        gate: GateResult | None = None,
    ) -> Manifest:
        """Store rows as a new version and make it the newest; equal content keeps its digest."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"{_place(name, partition)}/files/{sha256}.parquet"
        # A damaged file of that name must not survive the very run that was started to mend it.
        if not self.files.exists(path) or self.files.sha256(path) != sha256:
            self.files.write(path, data)
        file = StoredFile(path, sha256, len(data), table.num_rows)
        digest = content_digest((StoredFile("table", sha256, len(data)),))
        return self._swap(
            Manifest(name, partition, "table", digest, (file,), table.num_rows, provenance, gate, _now())
        )

    def _read_parquet(self, manifest: Manifest, file: StoredFile, columns: Sequence[str] | None) -> pa.Table:
        source = self._verified_source(file)
        try:
            return pq.read_table(source, columns=None if columns is None else list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise StoreError(
                f"{self.files.address(file.path)} of {_label(manifest.name, manifest.partition)} is not readable "
                f"Parquet ({error}). Materialize the asset again."
            ) from error

    def _verified_source(self, file: StoredFile) -> pa.BufferReader | Path:
        if not self.files.is_local:
            return pa.BufferReader(self.files.read_verified(file.path, file.sha256))
        self._verify_local(file.path, file.sha256)
        return self.files.local(file.path)

    def _verify_local(self, path: str, sha256: str) -> None:
        local = self.files.local(path)
        stat = local.stat() if local.exists() else None
        seen = None if stat is None else (f"{path}:{sha256}", stat.st_size, stat.st_mtime_ns)
        if seen in self._verified:
            return
        self.files.verify(path, sha256)
        if seen is not None:
            self._verified.add(seen)

    # -- folders ---------------------------------------------------------------------------------------

    def publish_folder(
        self,
        name: str,
        folder: Path,
        provenance: Provenance,
        partition: str | None = None,
        gate: GateResult | None = None,
        *,
        outside_digest: Sequence[str] = OUTSIDE_MODEL_DIGEST,
    ) -> Manifest:
        """Store a folder as a new version; files named in ``outside_digest`` travel but do not count."""
        sources = {
            str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()
        }
        if not sources:
            raise StoreError(
                f"{folder} holds no files, so there is nothing to publish as {_label(name, partition)}."
            )
        relative_files = tuple(
            StoredFile(relative, sha256_file(path), path.stat().st_size) for relative, path in sources.items()
        )
        digest = content_digest(relative_files, tuple(outside_digest))
        base = f"{_place(name, partition)}/folders/{digest}"
        for relative, path in sources.items():
            self.files.put(f"{base}/{relative}", path)
        files = tuple(
            StoredFile(f"{base}/{file.path}", file.sha256, file.size_bytes) for file in relative_files
        )
        return self._swap(Manifest(name, partition, "folder", digest, files, None, provenance, gate, _now()))

    def local_folder(self, name: str, partition: str | None = None, *, require_gate: bool = False) -> Path:
        """A local, verified copy of the newest folder version (the folder itself on a local store)."""
        manifest = self.require(name, partition, require_gate=require_gate)
        base = folder_base(manifest)
        if self.files.is_local:
            for file in manifest.files:
                self._verify_local(file.path, file.sha256)
            return self.files.local(base)
        copy = Path(tempfile.gettempdir()) / "foundry-folders" / manifest.digest
        local = Files(str(copy))
        for file in manifest.files:
            relative = file.path.removeprefix(f"{base}/")
            if not local.exists(relative):
                self.files.fetch(file.path, local.local(relative))
            local.verify(relative, file.sha256)
        return copy

    def address(self, manifest: Manifest) -> str:
        """URL under which a person finds the version."""
        if manifest.kind == "folder":
            return self.files.address(folder_base(manifest))
        return self.files.address(manifest.files[0].path)

    def verify(self, manifest: Manifest) -> None:
        """Check every file of a version against its digest. Raises StoreError on the first that differs."""
        for file in manifest.files:
            if self.files.is_local:
                self._verify_local(file.path, file.sha256)
            else:
                self.files.verify(file.path, file.sha256)

    # -- the one place where a version becomes the newest ------------------------------------------------

    def _swap(self, manifest: Manifest) -> Manifest:
        place = _place(manifest.name, manifest.partition)
        key = f"{manifest.digest[:16]}-{provenance_key(manifest.provenance)[:16]}"
        self.files.write(f"{place}/versions/{key}.json", to_json(manifest))
        self.files.write(f"{place}/current.json", to_json(manifest))
        return manifest


def folder_base(manifest: Manifest) -> str:
    """Path of a folder version below the store's root."""
    return f"{_place(manifest.name, manifest.partition)}/folders/{manifest.digest}"


def _place(name: str, partition: str | None) -> str:
    return f"{name}/{NO_PARTITION if partition is None else partition}"


def _label(name: str, partition: str | None) -> str:
    return f"'{name}'" if partition is None else f"'{name}' (partition '{partition}')"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
