"""What a stored version is: its files, what it was made from, and whether its gate let it through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GateResult:
    """Outcome of the checks that stand between a dataset or model and its readers (DESIGN, decision 12)."""

    passed: bool
    findings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def all_of(cls, gates: Iterable[GateResult]) -> GateResult:
        """Passed where every one has; the findings of all."""
        gates = list(gates)
        findings = {name: value for gate in gates for name, value in gate.findings.items()}
        return cls(all(gate.passed for gate in gates), findings)


@dataclass(frozen=True)
class Provenance:
    """What a version was made from; equal provenance means the work need not be done again.

    ``inputs`` maps ``name`` or ``name@partition`` to the content digest that was read.
    ``config`` holds every setting that changes the result and nothing else.
    ``function_version`` is the integer an author raises when results change.
    """

    asset: str
    function_version: int
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredFile:
    """One immutable file of a version: its place below the store's root, digest and size in bytes."""

    path: str
    sha256: str
    size_bytes: int
    num_rows: int | None = None


@dataclass(frozen=True)
class Manifest:
    """One version of a table or model folder. ``digest`` is over content alone, never over times or places."""

    name: str
    partition: str | None
    kind: str  # "table" or "folder"
    digest: str
    files: tuple[StoredFile, ...]
    num_rows: int | None
    provenance: Provenance
    gate: GateResult | None
    created_at: str
