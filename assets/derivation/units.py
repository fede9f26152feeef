"""Units of work: what has to be answered, what of it is known, and the rows that say so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.derivation.nested_rows import unnest
from assets.graph.interfaces import PerceptionModel, Store, WorkItem
from assets.graph.schemas import UNITS
from training.digests import canonical_json, sha256_bytes

UNITS_SUFFIX = "_units"


@dataclass(frozen=True)
class Units:
    """What has to be answered, and how to load the input of those that have to be computed.

    ``digests`` holds, by key, a digest of what the model reads beyond what the key stands for; a unit whose digest
    changed is outdated. ``items`` makes work of some keys. Rows of keys in ``also_keep`` stay, although nobody needs
    them now: a threshold that is moved there and back costs no model call.
    """

    digests: Mapping[str, str]
    items: Callable[[Sequence[str]], list[WorkItem]]
    also_keep: Collection[str] = ()


@dataclass(frozen=True)
class Derivation:
    """How rows of an asset are made: by which model, keyed by which column, in which form.

    ``name`` tells derivations of one asset apart and names their tables; mostly it is the asset's own.
    """

    asset: str
    name: str
    model: PerceptionModel
    key: str
    schema: pa.Schema
    sort_by: Sequence[str]
    function_version: int

    @property
    def units_table(self) -> str:
        """Name of the table that says what was done."""
        return f"{self.name}{UNITS_SUFFIX}"


@dataclass(frozen=True)
class Plan:
    """Units by what becomes of them. ``kept`` are rows of UNITS that still hold; ``failed`` are not tried again."""

    kept: pa.Table
    new: tuple[str, ...]
    stale: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def todo(self) -> tuple[str, ...]:
        """Keys to compute."""
        return self.new + self.stale


def plan_units(
    known: pa.Table,
    units: Units,
    derivation: Derivation,
    accepted: Collection[int] = (),
    *,
    retry_failed: bool = False,
) -> Plan:
    """Anti-join of what is wanted with what is known (rows of UNITS, one a key).

    A known unit holds when model, input and function version (or one accepted as equal) are today's.
    """
    versions = {derivation.function_version, *accepted}
    holds: list[bool] = []
    state: dict[str, str] = {}
    columns = (
        known[name].to_pylist()
        for name in ("key", "input_digest", "model_digest", "function_version", "error")
    )
    for key, input_digest, model_digest, version, error in zip(*columns, strict=True):
        same = model_digest == derivation.model.digest and version in versions
        wanted = key in units.digests and units.digests[key] == input_digest
        good = same and (wanted or (key not in units.digests and key in units.also_keep))
        if good and error and retry_failed:
            good = False
        holds.append(good)
        if key in units.digests:
            state[key] = ("failed" if error else "kept") if good else "stale"
    order = list(units.digests)
    return Plan(
        known.filter(pa.array(holds, pa.bool_())),
        tuple(key for key in order if key not in state),
        tuple(key for key in order if state.get(key) == "stale"),
        tuple(key for key in order if state.get(key) == "failed"),
    )


def input_digest(*parts: Any) -> str:
    """sha256 of what a model reads of one unit, as canonical JSON."""
    return sha256_bytes(canonical_json(list(parts)).encode())


def unit_rows(results: pa.Table, known: pa.Table, units: Units, derivation: Derivation) -> pa.Table:
    """Rows of UNITS for fresh results."""
    keys = results["key"].to_pylist()
    attempts = dict(zip(known["key"].to_pylist(), known["num_attempts"].to_pylist(), strict=True))
    model = derivation.model
    return pa.table(
        {
            "key": keys,
            "input_digest": [units.digests[key] for key in keys],
            "num_rows": pc.list_value_length(results["rows"]),
            "num_attempts": pa.array([attempts.get(key, 0) + 1 for key in keys], pa.int32()),
            "error": results["error"],
            "model": [model.name] * len(keys),
            "model_digest": [model.digest] * len(keys),
            "function_version": pa.array([derivation.function_version] * len(keys), pa.int32()),
        },
        schema=UNITS,
    )


def stamped(rows: pa.Table, derivation: Derivation) -> pa.Table:
    """Rows with who made them, written in one place so that no worker can claim another identity."""
    made_by: dict[str, tuple[Any, pa.DataType]] = {
        "model": (derivation.model.name, pa.string()),
        "model_digest": (derivation.model.digest, pa.string()),
        "function_version": (derivation.function_version, pa.int32()),
    }
    for name, (value, kind) in made_by.items():
        column = pa.repeat(pa.scalar(value, kind), rows.num_rows)
        rows = rows.set_column(rows.schema.get_field_index(name), derivation.schema.field(name), column)
    return rows


def flat_rows(results: pa.Table, derivation: Derivation) -> pa.Table:
    """The model's rows out of results or journal, as rows of the role's schema."""
    renamed = [
        entry.with_name("key") if entry.name == derivation.key else entry for entry in derivation.schema
    ]
    return unnest(results, "key", "rows", pa.schema(renamed)).rename_columns(list(derivation.schema.names))


def failed_units(store: Store, asset: str) -> dict[str | None, pa.Table]:
    """By partition, rows of UNITS that failed in the newest version of ``asset``; only partitions that have any.

    An asset may keep several tables of units (one an annotator); they are found by what wrote them.
    """
    found: dict[str | None, list[pa.Table]] = {}
    for name in store.names():
        if not name.endswith(UNITS_SUFFIX):
            continue
        keys: list[str | None] = [*store.partitions(name)] or [None]
        for key in keys:
            manifest = store.current(name, key)
            if manifest is None or manifest.provenance.asset != asset:
                continue
            units = store.read_table(name, key)
            failed = units.filter(pc.not_equal(units["error"], ""))
            if failed.num_rows:
                found.setdefault(key, []).append(failed)
    return {key: pa.concat_tables(tables) for key, tables in found.items()}
