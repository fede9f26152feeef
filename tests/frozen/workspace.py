"""The frozen smoke workspace: how it is packed, how it is put up again, and what is known of it.

What lies in it twice is packed once: the shipped autoencoder, which every model folder holds, comes from where it
ships, and the text states of the dataset are rows of the text embeddings.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from assets.graph.lineage import as_records, trace
from assets.graph.steps import STEPS
from assets.graph.versions import Manifest
from orchestration.resources.store import ManifestStore
from orchestration.sql import query
from orchestration.workspace import Workspace
from training.digests import sha256_file
from training.packaged_models import SHIPPED_AUTOENCODER

ARCHIVE = Path(__file__).with_name("smoke_workspace.tar.xz")
FACTS = Path(__file__).with_name("smoke_workspace.json")
PROFILE, DATA = "smoke", "scenes"
FOLDERS = ("landing", "runs", "store")
"""Of a workspace, what is packed: no state of Dagster, no cache, no copy of what the store holds."""
LEFT_OUT = ("checkpoints", "samples", "snapshots", "lock", "_pending")
"""Names of folders and files of runs and store that only unfinished work needs."""
COLLECTED = "scaling_snapshots"
"""Weights that a grid point had on the way, of which its scores were made; as large as all models together."""
BECAUSE = "left out of the frozen workspace"
REBUILT = "rebuilt.json"
"""Member of the archive that says what is put together again, and of what."""
WEIGHTS, PROBE = "diffusion_pytorch_model.safetensors", "probe.safetensors"
ROW_BYTES = 2 * 384
"""Of a text state: 384 halves."""
NPY_HEADER_BYTES = 128
TRACED = {"backbone": "unet-tiny", "pruned_backbone": "transformer-tiny-ecodiff-20"}
"""Models whose lineage is frozen, by asset."""
DIGITS = 12
"""Of a digest in a line of lineage."""


def pack(home: Path) -> None:
    """Write the archive of a finished workspace below ``home``; no owner, time or right of a file goes into it."""
    root = Workspace(home, PROFILE, DATA).root
    files = [
        path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if _is_kept(path, root)
    ]
    shipped = sha256_file(SHIPPED_AUTOENCODER / WEIGHTS)
    copies = [path for path in files if path.name == WEIGHTS and sha256_file(path) == shipped]
    rows = {row: place for place, row in enumerate(_embedding_rows(root))}
    states = {path: told for path in files if (told := _as_rows(path, rows)) is not None}
    rebuilt = {
        "shipped_autoencoder": [str(path.relative_to(home)) for path in copies],
        "embedding_rows": {str(path.relative_to(home)): told for path, told in states.items()},
    }
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        _add(archive, REBUILT, json.dumps(rebuilt).encode())
        for path in files:
            if path not in states and path not in copies:
                _add(archive, str(path.relative_to(home)), path.read_bytes())
        for manifest in versions(ManifestStore(root / "store")):
            if manifest.name == COLLECTED:
                place = f"{root.name}/store/{COLLECTED}/{manifest.partition}/collected/{manifest.digest}.json"
                record = {"when": manifest.created_at, "because": BECAUSE}
                _add(archive, place, json.dumps(record).encode())


def unpack(home: Path) -> Workspace:
    """Put the workspace up below ``home``. Copies of the shipped autoencoder are one file on disk."""
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        archive.extractall(home, filter="data")
    workspace = Workspace(home, PROFILE, DATA)
    rebuilt = json.loads((home / REBUILT).read_text(encoding="utf-8"))
    first, *others = [home / name for name in rebuilt["shipped_autoencoder"]]
    shutil.copyfile(SHIPPED_AUTOENCODER / WEIGHTS, first)
    for path in others:
        os.link(first, path)
    rows = list(_embedding_rows(workspace.root))
    for name, (header, places) in rebuilt["embedding_rows"].items():
        (home / name).write_bytes(bytes.fromhex(header) + b"".join(rows[place] for place in places))
    return workspace


def versions(store: ManifestStore) -> list[Manifest]:
    """The newest version of everything stored."""
    return [store.require(name, key) for name in store.names() for key in _keys(store, name)]


def facts_of(store: ManifestStore) -> dict[str, Any]:
    """What is frozen of a workspace beside its bytes: which versions there are, rows by table, lineage of two models."""
    found = versions(store)
    models = [manifest for manifest in found if any(Path(file.path).name == PROBE for file in manifest.files)]
    return {
        "assets": {
            name: [manifest.partition for manifest in found if manifest.name == name] for name in STEPS
        },
        "models": [[manifest.name, manifest.partition] for manifest in models],
        "rows": row_counts(store),
        "lineage": {name: lineage_lines(as_records(trace(store, name, key))) for name, key in TRACED.items()},
    }


def row_counts(store: ManifestStore) -> dict[str, int]:
    """Rows of every table, as `foundry sql` counts them."""
    names = sorted({manifest.name for manifest in versions(store) if manifest.kind == "table"})
    counts = " UNION ALL ".join(
        f"SELECT '{name}' AS name, count(*) AS rows FROM \"{name}\"" for name in names
    )
    return dict(sorted(query(store, counts)[1]))


def lineage_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each version that a version was made from: how far back, what, its digest, and how many it read."""
    return [
        f"{record['depth']} {record['version']} {record['digest'][:DIGITS]} {len(record['made_from'])}"
        for record in records
    ]


def read_facts() -> dict[str, Any]:
    """The frozen facts."""
    return dict(json.loads(FACTS.read_text(encoding="utf-8")))


def write_facts(store: ManifestStore) -> None:
    """Freeze the facts of a workspace: a line each."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts_of(store).items()]
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _keys(store: ManifestStore, name: str) -> list[str | None]:
    return [*store.partitions(name)] or [None]


def _is_kept(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    is_collected = parts[:2] == ("store", COLLECTED) and "folders" in parts
    return (
        path.is_file() and path.suffix != ".pt" and not is_collected and not set(parts).intersection(LEFT_OUT)
    )


def _embedding_rows(root: Path) -> Iterator[bytes]:
    """Token states and pooled vectors of all texts, one after the other, each as its bytes."""
    for path in sorted((root / "store" / "text_embeddings").glob("*/files/*.parquet")):
        table = pq.read_table(path, columns=["states", "pooled"])
        for cell in [*table["states"].to_pylist(), *table["pooled"].to_pylist()]:
            yield from (cell[start : start + ROW_BYTES] for start in range(0, len(cell), ROW_BYTES))


def _as_rows(path: Path, rows: Mapping[bytes, int]) -> tuple[str, list[int]] | None:
    """An array file as its header and the places of its rows; None where they are not all embedding rows."""
    if path.suffix != ".npy":
        return None
    header, data = path.read_bytes()[:NPY_HEADER_BYTES], path.read_bytes()[NPY_HEADER_BYTES:]
    found = [rows.get(data[start : start + ROW_BYTES]) for start in range(0, len(data), ROW_BYTES)]
    places = [place for place in found if place is not None]
    return (header.hex(), places) if places and len(places) == len(found) else None


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
