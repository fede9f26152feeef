"""The store: immutable, content-named versions of tables and folders, and a pointer swapped atomically.

Layout below the root, for a name and partition (``_`` where there is none)::

    <name>/<partition>/current.json                     the newest manifest
    <name>/<partition>/versions/<when>-<digest>.json    every manifest there ever was, one a swap
    <name>/<partition>/files/<sha256>.parquet, <name>/<partition>/folders/<digest>/...
    <name>/<partition>/collected/<digest>.json          when and why a version's bytes were removed
    _pending/<name>/<partition>/...                     results of unfinished runs
    _records/...                                        what people decided (:mod:`orchestration.resources.records`)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from assets.graph.interfaces import WorkItem
from assets.graph.steps import STEPS
from assets.graph.versions import GateResult, Manifest, Provenance, StoredFile
from orchestration.resources.files import Files, StoreError
from orchestration.resources.history import History, label_of, place_of
from orchestration.resources.manifests import content_digest
from orchestration.resources.parquet_reading import (
    plan_work,
    read_bytes,
    read_file,
    read_pieces,
    verify_local,
)
from orchestration.resources.parquet_writing import write_files
from orchestration.resources.pending import PENDING, PendingFolder
from orchestration.resources.records import Records, now
from training.digests import OUTSIDE_MODEL_DIGEST, sha256_file

if TYPE_CHECKING:
    import pyarrow.dataset as pads


class ManifestStore(History):
    """Implements :class:`assets.graph.interfaces.Store` on a local folder or any fsspec URL.

    Every byte is checked against its manifest before it is used; a file that was checked once by this process
    and has not changed since (same size and time) is not read again for that. Only pieces of a remote file
    (:meth:`iterate_version`, :meth:`work_items`) are checked page by page, by the checksums inside the file.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(Files(str(root)))
        self.records = Records(self.files)

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
        return self.read_version(self.require(name, partition, require_gate=require_gate), columns)

    def read_version(self, manifest: Manifest, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of any version, bytes verified. Raises StoreError when they are damaged or were collected."""
        self.check_stored(manifest)
        return pa.concat_tables([self._read_file(url, file, columns) for url, file in self._urls(manifest)])

    def _read_file(self, url: str, file: StoredFile, columns: Sequence[str] | None) -> pa.Table:
        """A remote file is fetched once, as a whole, so that what was verified is what is used."""
        if self.files.is_local:
            return read_file(url, file.sha256, columns)
        return read_bytes(self.files.read_verified(file.path, file.sha256), url, columns)

    def scan(self, manifest: Manifest, *, verify: bool = True) -> pads.Dataset:
        """A version as a lazy Arrow dataset, for queries that read a few columns or rows of a large table.

        ``verify=False`` leaves the bytes unchecked, for looking only. Raises as :meth:`read_version` does.
        """
        import pyarrow.dataset as arrow_dataset

        self.check_stored(manifest)
        if verify:
            self.verify(manifest)
        if self.files.is_local:
            return arrow_dataset.dataset([self.files.url(file.path) for file in manifest.files])
        paths = [self.files.filesystem._strip_protocol(self.files.url(file.path)) for file in manifest.files]
        return arrow_dataset.dataset(paths, filesystem=self.files.filesystem, format="parquet")

    def iterate_version(self, manifest: Manifest, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Rows of any version in pieces of bounded size, in order; at least one piece, which may be empty."""
        self.check_stored(manifest)
        for url, file in self._urls(manifest):
            yield from read_pieces(url, file.sha256, columns)

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
        return self.write_batches(name, [table], provenance, partition, gate)

    def write_batches(
        self,
        name: str,
        batches: Iterable[pa.Table],
        provenance: Provenance,
        partition: str | None = None,
        gate: GateResult | None = None,
    ) -> Manifest:
        """As :meth:`write_table`, for rows that arrive in pieces: memory is bounded by one piece and one row group.

        Where files are cut depends on the rows alone, not on the pieces they arrived in: see
        :mod:`orchestration.resources.parquet_writing`.
        """
        files = tuple(write_files(self.files, f"{place_of(name, partition)}/files", batches))
        named = [
            StoredFile("table" if index == 0 else f"table-{index:05d}", file.sha256, file.size_bytes)
            for index, file in enumerate(files)
        ]
        num_rows = sum(file.num_rows or 0 for file in files)
        digest = content_digest(tuple(named))
        return self.swap(Manifest(name, partition, "table", digest, files, num_rows, provenance, gate, now()))

    def work_items(
        self,
        name: str,
        partition: str | None,
        key: str,
        wanted: Sequence[str],
        columns: Sequence[str],
        rows_per_item: int,
    ) -> list[WorkItem]:
        """Rows of the newest version whose ``key`` is wanted, in stored order, to be loaded where the work is done.

        Here only the column ``key`` is read. Raises StoreError when a column does not exist.
        """
        manifest = self.require(name, partition)
        self.check_stored(manifest)
        return plan_work(self._urls(manifest), key, wanted, columns, rows_per_item)

    def pending(self, name: str, partition: str | None = None) -> PendingFolder:
        """Results of an unfinished run of ``name``."""
        return PendingFolder(self.files, f"{PENDING}/{place_of(name, partition)}")

    # -- what people decided ---------------------------------------------------------------------------

    def accepted_versions(self, name: str) -> frozenset[int]:
        """Function versions whose rows a person declared equivalent to today's (`foundry accept-version`)."""
        today = STEPS[name].function_version if name in STEPS else None
        return self.records.equivalents(name, today)

    def takedowns(self) -> frozenset[str]:
        """Image ids that must not be in any new version (`foundry remove`)."""
        return self.records.takedowns()

    def marked_images(self, manifest: Manifest) -> frozenset[str]:
        """Removed images that a version was marked to have been made from, while they stay removed."""
        marks = self.records.marks(manifest.name, manifest.partition, manifest.digest)
        return frozenset(mark.image_id for mark in marks)

    def _urls(self, manifest: Manifest) -> list[tuple[str, StoredFile]]:
        """Each file of a version with an address under which any process on this storage finds it."""
        return [(self.files.url(file.path), file) for file in manifest.files]

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
                f"{folder} holds no files, so there is nothing to publish as {label_of(name, partition)}."
            )
        relative_files = tuple(
            StoredFile(relative, sha256_file(path), path.stat().st_size) for relative, path in sources.items()
        )
        digest = content_digest(relative_files, tuple(outside_digest))
        base = f"{place_of(name, partition)}/folders/{digest}"
        for relative, path in sources.items():
            self.files.put(f"{base}/{relative}", path)
        files = tuple(
            StoredFile(f"{base}/{file.path}", file.sha256, file.size_bytes) for file in relative_files
        )
        return self.swap(Manifest(name, partition, "folder", digest, files, None, provenance, gate, now()))

    def local_folder(self, name: str, partition: str | None = None, *, require_gate: bool = False) -> Path:
        """A local, verified copy of the newest folder version (the folder itself on a local store)."""
        return self.local_version(self.require(name, partition, require_gate=require_gate))

    def local_version(self, manifest: Manifest) -> Path:
        """A local, verified copy of any folder version. Raises StoreError when it is damaged or was collected."""
        self.check_stored(manifest)
        manifest = self._as_on_disk(manifest)
        base = folder_base(manifest)
        if self.files.is_local:
            self.verify(manifest)
            return self.files.local(base)
        copy = Path(tempfile.gettempdir()) / "foundry-folders" / manifest.digest
        local = Files(str(copy))
        for file in manifest.files:
            relative = file.path.removeprefix(f"{base}/")
            if not local.exists(relative):
                self.files.fetch(file.path, local.local(relative))
            local.verify(relative, file.sha256)
        return copy

    def _as_on_disk(self, manifest: Manifest) -> Manifest:
        """The newest manifest of the same content: cards travel outside the digest, and a later one replaced them."""
        current = self.current(manifest.name, manifest.partition)
        if current is not None and current.digest == manifest.digest:
            return current
        versions = self.versions(manifest.name, manifest.partition)
        return next(
            (version for version in reversed(versions) if version.digest == manifest.digest), manifest
        )

    def address(self, manifest: Manifest) -> str:
        """URL under which a person finds the version."""
        if manifest.kind == "folder":
            return self.files.address(folder_base(manifest))
        if len(manifest.files) == 1:
            return self.files.address(manifest.files[0].path)
        return self.files.address(f"{place_of(manifest.name, manifest.partition)}/files")

    def verify(self, manifest: Manifest) -> None:
        """Check every file of a version against its digest. Raises StoreError on the first that differs."""
        for file in manifest.files:
            if self.files.is_local:
                verify_local(self.files.local(file.path), file.sha256)
            else:
                self.files.verify(file.path, file.sha256)


def folder_base(manifest: Manifest) -> str:
    """Path of a folder version below the store's root."""
    return f"{place_of(manifest.name, manifest.partition)}/folders/{manifest.digest}"
