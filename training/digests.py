"""Digests of bytes, files, folders and plain values: the identity of everything the platform makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.errors import FoundryError

OUTSIDE_MODEL_DIGEST = ("model_card.md", "lineage.json")
"""Files that travel in a model folder and say where it came from; they do not count as content."""


def canonical_json(value: Any) -> str:
    """One spelling for equal values: sorted keys, no spaces. Raises ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks. Raises FoundryError when the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FoundryError(
            f"{path}: cannot be read ({error.strerror}). Restore the file or make it again."
        ) from error


def list_files(folder: Path, exclude: Iterable[str] = ()) -> list[str]:
    """Relative POSIX paths of all files below ``folder``, sorted, without those in ``exclude``.

    A name matches at any depth (``model_card.md``), a path (``raw/config.json``) matches exactly.
    """
    excluded = set(exclude)
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if (
            path.is_file()
            and not excluded.intersection(relative.parts)
            and relative.as_posix() not in excluded
        ):
            found.append(relative.as_posix())
    return sorted(found)


def folder_digest(path: Path, exclude: Iterable[str] = ()) -> str:
    """sha256 over the sorted (relative path, sha256 of content) pairs of a folder; times do not count.

    Raises FoundryError when ``path`` is not a folder.
    """
    if not path.is_dir():
        raise FoundryError(f"{path}: no such folder. Give a folder that exists, or make it again.")
    pairs = [[name, sha256_file(path / name)] for name in list_files(path, exclude)]
    return sha256_bytes(canonical_json(pairs).encode())


def folder_size_bytes(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum((path / name).stat().st_size for name in list_files(path))
