"""Manifests as JSON: what a version consists of, what it was made from, and whether its gate let it through."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from assets.graph.versions import GateResult, Manifest, Provenance, StoredFile
from training.digests import canonical_json, sha256_bytes


def digest_of(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of ``value``."""
    return sha256_bytes(canonical_json(value).encode())


def provenance_key(provenance: Provenance) -> str:
    """Digest of a provenance: equal keys mean that the same work would be done again."""
    return digest_of(asdict(provenance))


def content_digest(files: tuple[StoredFile, ...], outside: tuple[str, ...] = ()) -> str:
    """Digest over the relative names and bytes of a version's files, leaving out the names in ``outside``.

    Equals :func:`training.digests.folder_digest` of the same files in a folder.
    """
    return digest_of(sorted([file.path, file.sha256] for file in files if file.path not in outside))


def to_json(manifest: Manifest) -> bytes:
    """The manifest as readable JSON bytes."""
    return (json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def from_json(data: bytes) -> Manifest:
    """Inverse of :func:`to_json`. Raises ValueError, KeyError or TypeError on anything else."""
    raw = json.loads(data)
    gate = raw.pop("gate")
    return Manifest(
        **{
            **raw,
            "files": tuple(StoredFile(**file) for file in raw["files"]),
            "provenance": Provenance(**raw["provenance"]),
            "gate": None if gate is None else GateResult(**gate),
        }
    )
