"""Why two versions differ, from what they were made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from assets.graph.versions import Manifest, Provenance

Pair = tuple[Manifest | None, Manifest | None]


def reasons_for(pairs: Sequence[Pair]) -> list[str]:
    """Every difference between the provenances of (before, after) versions, with the number of partitions it holds in."""
    counts: Counter[str] = Counter()
    for before, after in pairs:
        if before is None and after is not None:
            counts["there was no version before"] += 1
        elif before is not None and after is None:
            counts["there is no version after"] += 1
        elif before is not None and after is not None:
            counts.update(dict.fromkeys(_differences(before, after), 1))
    if len(pairs) == 1:
        return list(counts)
    return [
        f"{reason} ({number} partition{'s' if number > 1 else ''})" for reason, number in counts.most_common()
    ]


def provenance_differences(before: Provenance, after: Provenance) -> list[str]:
    """Function version, settings and inputs that differ, old value first."""
    found = []
    if before.function_version != after.function_version:
        found.append(f"function version {before.function_version} -> {after.function_version}")
    found += _changes("setting", flattened(before.config), flattened(after.config))
    found += _changes("input", _short(before.inputs), _short(after.inputs))
    return found


def _differences(before: Manifest, after: Manifest) -> list[str]:
    found = provenance_differences(before.provenance, after.provenance)
    if not found and before.digest != after.digest:
        return ["made from the same inputs, settings and function version, and yet different"]
    return found


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as ``outer.inner``: value."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = repr(value)
    return flat


def _short(inputs: Mapping[str, str]) -> dict[str, str]:
    return {name: digest[:12] for name, digest in inputs.items()}


def _changes(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    names = sorted(before.keys() | after.keys())
    found = []
    for name in names:
        old, new = before.get(name), after.get(name)
        if old is None:
            found.append(f"{kind} {name} is new: {new}")
        elif new is None:
            found.append(f"{kind} {name} is gone: {old}")
        elif old != new:
            found.append(f"{kind} {name} {old} -> {new}")
    return found
