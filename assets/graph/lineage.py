"""From any version back to what it was made from: versions, code, config and digests, out of the manifests alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from assets.graph.interfaces import Store
from assets.graph.steps import input_label
from assets.graph.versions import Manifest
from training.errors import FoundryError


@dataclass(frozen=True)
class LineageNode:
    """One version and what it read. ``manifest`` is None for what came from outside the graph."""

    label: str
    digest: str
    manifest: Manifest | None
    inputs: tuple[LineageNode, ...] = field(default_factory=tuple)


def trace(store: Store, name: str, partition: str | None = None) -> LineageNode:
    """Lineage of the newest version of ``name``. Raises FoundryError when there is none."""
    return trace_version(store, store.require(name, partition))


def trace_version(store: Store, manifest: Manifest) -> LineageNode:
    """Lineage of any version."""
    return _node(store, manifest, {})


def walk(root: LineageNode) -> Iterator[tuple[int, LineageNode]]:
    """(depth, node) of every distinct version below ``root``, parents before what they were made from."""
    seen: set[tuple[str, str]] = set()
    waiting = [(0, root)]
    while waiting:
        depth, node = waiting.pop()
        if (node.label, node.digest) in seen:
            continue
        seen.add((node.label, node.digest))
        yield depth, node
        waiting.extend((depth + 1, child) for child in reversed(node.inputs))


def as_records(root: LineageNode) -> list[dict[str, Any]]:
    """The walk as plain data, for ``--json`` and for ``lineage.json`` in model folders."""
    return [
        {
            "depth": depth,
            "version": node.label,
            "digest": node.digest,
            "made_from": {child.label: child.digest for child in node.inputs},
            **({} if node.manifest is None else _facts(node.manifest)),
        }
        for depth, node in walk(root)
    ]


def _facts(manifest: Manifest) -> dict[str, Any]:
    provenance = manifest.provenance
    return {
        "asset": provenance.asset,
        "function_version": provenance.function_version,
        "config": dict(provenance.config),
        "num_rows": manifest.num_rows,
        "created_at": manifest.created_at,
        "gate": None if manifest.gate is None else asdict(manifest.gate),
    }


def _node(store: Store, manifest: Manifest, known: dict[tuple[str, str], LineageNode]) -> LineageNode:
    label = input_label(manifest.name, manifest.partition)
    key = (label, manifest.digest)
    if key not in known:
        inputs = tuple(
            _input(store, name, digest, known) for name, digest in sorted(manifest.provenance.inputs.items())
        )
        known[key] = LineageNode(label, manifest.digest, manifest, inputs)
    return known[key]


def _input(store: Store, label: str, digest: str, known: dict[tuple[str, str], LineageNode]) -> LineageNode:
    if (label, digest) in known:
        return known[(label, digest)]
    name, _, partition = label.partition("@")
    for version in reversed(store.versions(name, partition or None)):
        if version.digest == digest:
            return _node(store, version, known)
    return LineageNode(label, digest, None)


def parse_target(store: Store, name: str, partition: str | None) -> tuple[str, str | None]:
    """Check what a user asked for. Raises FoundryError that lists what there is."""
    if name not in store.names():
        raise FoundryError(
            f"There is no version of '{name}'. Known: {', '.join(store.names()) or 'nothing yet'}. "
            "Materialize the asset first."
        )
    keys = store.partitions(name)
    if partition is None and keys:
        raise FoundryError(f"'{name}' has partitions; name one of: {', '.join(keys)}.")
    if partition is not None and partition not in keys:
        raise FoundryError(f"'{name}' has no partition '{partition}'; it has: {', '.join(keys) or 'none'}.")
    return name, partition
