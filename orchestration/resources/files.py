"""Bytes on a file system or in a bucket, behind one small class over fsspec.

A write either happens whole or not at all: rename on a local disk, one put on an object store.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import io
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from training.errors import FoundryError
from training.run_folder import sync_folder


class StoreError(FoundryError):
    """Something in storage is missing, damaged or refused; the message says what and how to mend it."""


@dataclass(frozen=True)
class FileFacts:
    """A stored file: its path below the root, bytes, and when it was last written (POSIX seconds)."""

    path: str
    size_bytes: int
    modified_at: float


class Files:
    """Whole-file reads and writes below one root URL (a local path, ``s3://``, ``gs://``, ``memory://``)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.filesystem, self._base = fsspec.core.url_to_fs(root)
        self.is_local = isinstance(self.filesystem, LocalFileSystem)

    def address(self, path: str) -> str:
        """The URL a person can open."""
        return f"{self.root.rstrip('/')}/{path}"

    def url(self, path: str) -> str:
        """Address of a file for another process: absolute whatever its working folder is."""
        return (
            str(self.local(path))
            if self.is_local
            else self.filesystem.unstrip_protocol(f"{self._base}/{path}")
        )

    def local(self, path: str) -> Path:
        """Local path of a stored file; only meaningful where ``is_local``."""
        return Path(self._base) / path

    def exists(self, path: str) -> bool:
        """Whether a file or folder of that name exists."""
        return bool(self.filesystem.exists(f"{self._base}/{path}"))

    def children(self, path: str) -> list[str]:
        """Names directly below a folder, sorted; empty when there is no such folder."""
        full = f"{self._base}/{path}"
        if not self.filesystem.isdir(full):
            return []
        return sorted(
            str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in self.filesystem.ls(full, detail=False)
        )

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises StoreError when it is missing."""
        try:
            return bytes(self.filesystem.cat_file(f"{self._base}/{path}"))
        except FileNotFoundError as error:
            raise missing(self.address(path)) from error

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """All bytes of several small files, at once where storage is remote. Raises StoreError when one is missing."""
        if self.is_local or not paths:
            return [self.read(path) for path in paths]
        full = [f"{self._base}/{path}" for path in paths]
        try:
            found = self.filesystem.cat(full)
        except FileNotFoundError as error:
            raise missing(self.address(paths[0])) from error
        if len(full) == 1:  # fsspec answers bytes for one file and a mapping for several
            return [found] if isinstance(found, bytes) else list(found.values())
        return [found[self.filesystem._strip_protocol(path)] for path in full]

    def write(self, path: str, data: bytes) -> None:
        """Write atomically. Raises StoreError on a full disk; what was there before is still there."""
        full = f"{self._base}/{path}"
        if not self.is_local:
            self.filesystem.pipe_file(full, data)
            return
        self._write_local(path, io.BytesIO(data))

    def put(self, path: str, source: Path) -> None:
        """Copy a local file in, atomically and without holding it in memory."""
        if not self.is_local:
            self.filesystem.put_file(str(source), f"{self._base}/{path}")
            return
        with source.open("rb") as handle:
            self._write_local(path, handle)

    @contextlib.contextmanager
    def scratch(self, folder: str) -> Iterator[Path]:
        """A path for a file that is being made: on the store's own disk where there is one, gone afterwards."""
        place = self.local(folder) if self.is_local else Path(tempfile.gettempdir())
        path = place / f".{uuid.uuid4().hex[:12]}.tmp"
        with self.writing(folder):
            place.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[None]:
        """Turn a failed write into a StoreError that says which file and what to do."""
        try:
            yield
        except OSError as error:
            raise _write_error(self.address(path), error) from error

    def adopt(self, scratch: Path, path: str) -> None:
        """Move a finished scratch file to its place, durably; put it there on a remote store."""
        if not self.is_local:
            self.filesystem.put_file(str(scratch), f"{self._base}/{path}")
            return
        with self.writing(path):
            with scratch.open("rb") as handle:
                os.fsync(handle.fileno())
            scratch.replace(self.local(path))
            sync_folder(self.local(path).parent)

    def touch(self, path: str) -> bool:
        """Say that a file is in use again, so that nothing collects it as an old one; false where it is gone."""
        if not self.is_local:
            return self.exists(path)
        try:
            os.utime(self.local(path))
        except FileNotFoundError:
            return False
        return True

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(f"{self._base}/{path}")

    def remove_folder(self, path: str) -> None:
        """Remove a folder and all in it; one that is gone already is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm(f"{self._base}/{path}", recursive=True)

    def walk(self, path: str) -> list[FileFacts]:
        """All files below a folder, sorted by path; none when there is no such folder."""
        full = f"{self._base}/{path}".rstrip("/")
        if not self.filesystem.isdir(full):
            return []
        found = self.filesystem.find(full, detail=True)
        prefix = self._base.rstrip("/") + "/"
        return [
            FileFacts(str(name).removeprefix(prefix), int(facts["size"]), _written_at(facts))
            for name, facts in sorted(found.items())
        ]

    def facts(self, path: str) -> FileFacts | None:
        """Size and time of one file, None where there is none."""
        try:
            facts = self.filesystem.info(f"{self._base}/{path}")
        except FileNotFoundError:
            return None
        return FileFacts(path, int(facts["size"]), _written_at(facts))

    def fetch(self, path: str, target: Path) -> None:
        """Copy a stored file to a local path, without holding it in memory."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.filesystem.get_file(f"{self._base}/{path}", str(target))

    def sha256(self, path: str) -> str:
        """Digest of a stored file's bytes, read in pieces. Raises StoreError when it is missing."""
        try:
            with self.filesystem.open(f"{self._base}/{path}", "rb") as handle:
                return _sha256_of_stream(handle)
        except FileNotFoundError as error:
            raise missing(self.address(path)) from error

    def _write_local(self, path: str, source: BinaryIO) -> None:
        target = self.local(path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as handle:
                shutil.copyfileobj(source, handle, length=1 << 20)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _write_error(self.address(path), error) from error

    def verify(self, path: str, sha256: str) -> None:
        """Refuse, with StoreError, a file whose bytes are not the ones that were written."""
        found = self.sha256(path)
        if found != sha256:
            raise damaged(self.address(path), found, sha256)

    def read_verified(self, path: str, sha256: str) -> bytes:
        """All bytes of a file, refused with StoreError when they are not the bytes that were written."""
        data = self.read(path)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise damaged(self.address(path), found, sha256)
        return data


def _written_at(facts: dict[str, object]) -> float:
    """When a file was written; a file system that does not tell is taken to mean just now, so nothing is lost."""
    for name in ("mtime", "LastModified", "updated", "created"):
        value = facts.get(name)
        if isinstance(value, datetime.datetime):
            return value.replace(tzinfo=value.tzinfo or datetime.UTC).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()


def _sha256_of_stream(handle: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := handle.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def missing(address: str) -> StoreError:
    """The sentence for a file that is gone."""
    return StoreError(f"{address} is missing from storage. Materialize its asset again, or restore the file.")


def damaged(address: str, found: str, expected: str) -> StoreError:
    """The sentence for a file that is not what was written."""
    return StoreError(
        f"{address} is damaged: its sha256 is {found[:12]}, the manifest says {expected[:12]}. "
        "Restore the file from a backup, or delete it and materialize its asset again."
    )


def _write_error(address: str, error: OSError) -> StoreError:
    if error.errno == errno.ENOSPC:
        return StoreError(
            f"No space is left to write {address}. Earlier versions are untouched. "
            "Free disk space or point FOUNDRY_HOME at a larger disk, then launch again."
        )
    return StoreError(f"{address} cannot be written: {error.strerror}. Check the folder's permissions.")
