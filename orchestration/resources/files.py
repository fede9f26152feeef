"""Bytes on a file system or in a bucket, behind one small class over fsspec.

A write either happens whole or not at all: rename on a local disk, one put on an object store.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from training.errors import FoundryError


class StoreError(FoundryError):
    """Something in storage is missing, damaged or refused; the message says what and how to mend it."""


class Files:
    """Whole-file reads and writes below one root URL (a local path, ``s3://``, ``gs://``, ``memory://``)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.filesystem, self._base = fsspec.core.url_to_fs(root)
        self.is_local = isinstance(self.filesystem, LocalFileSystem)

    def address(self, path: str) -> str:
        """The URL a person can open."""
        return f"{self.root.rstrip('/')}/{path}"

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
            raise _missing(self.address(path)) from error

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
            raise _missing(self.address(path)) from error

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
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _write_error(self.address(path), error) from error

    def verify(self, path: str, sha256: str) -> None:
        """Refuse, with StoreError, a file whose bytes are not the ones that were written."""
        found = self.sha256(path)
        if found != sha256:
            raise _damaged(self.address(path), found, sha256)

    def read_verified(self, path: str, sha256: str) -> bytes:
        """All bytes of a file, refused with StoreError when they are not the bytes that were written."""
        data = self.read(path)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise _damaged(self.address(path), found, sha256)
        return data


def _sha256_of_stream(handle: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := handle.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _missing(address: str) -> StoreError:
    return StoreError(f"{address} is missing from storage. Materialize its asset again, or restore the file.")


def _damaged(address: str, found: str, expected: str) -> StoreError:
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
