"""Deriving rows by a model: only what is new or outdated is computed, a failing unit stands alone, nothing is lost.

A *unit* is what a model answers at once: a sample, a caption text, an entity. For every unit a table of
:data:`assets.graph.schemas.UNITS` says what it was answered by, from which input, with how many rows, or why it failed.
Recomputing is an anti-join with that table, so a unit without any row (a caption that names nothing) is known to be
done too. Results are journalled while they arrive: a run that is killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from assets.derivation.error_isolation import IsolatingWorker, failed_results, results_schema
from assets.derivation.journal import Journal, unfinished
from assets.derivation.reuse import previous_rows
from assets.derivation.units import Derivation, Plan, Units, flat_rows, plan_units, stamped, unit_rows
from assets.derivation.worker_errors import DeadlyRows
from assets.graph.interfaces import BatchWorker, Compute, Pending, Store
from assets.graph.schemas import UNITS
from assets.graph.versions import Manifest, Provenance
from training.errors import FoundryError

MAX_FAILED_SHARE = 0.2
FEW_FAILURES = 5
Log = Callable[[str], None]


@dataclass
class Derived:
    """All rows of the wanted units, and what it took. Call :meth:`finish` once the rows are stored."""

    rows: pa.Table
    units: pa.Table
    counts: dict[str, int]
    _store: Store
    _derivation: Derivation
    _partition: str | None
    _pending: Pending = field(repr=False)

    def finish(self, provenance: Provenance) -> None:
        """Record which units are done. Comes after the rows: a crash in between costs work, never rows."""
        self._store.write_table(self._derivation.units_table, self.units, provenance, self._partition)
        self._pending.clear()


@dataclass(frozen=True)
class Refreshed:
    """A table that was brought up to date and stored: its version, its rows, and what it took."""

    manifest: Manifest
    table: pa.Table
    counts: dict[str, int]


def refresh_table(
    store: Store,
    compute: Compute,
    derivation: Derivation,
    units: Units,
    provenance: Provenance,
    partition: str | None,
    log: Log,
    *,
    retry_failed: bool = False,
    select: Callable[[pa.Table], pa.Table] | None = None,
) -> Refreshed:
    """:func:`derive` the rows of a table from its newest version, and store them as its next.

    ``select`` turns the model's rows into the table's, without a model: it marks what is kept.
    """
    previous = previous_rows(store, derivation.name, partition, log)
    derived = derive(store, compute, derivation, partition, previous, units, log, retry_failed=retry_failed)
    table = derived.rows if select is None else select(derived.rows)
    manifest = store.write_table(derivation.name, table, provenance, partition)
    derived.finish(provenance)
    return Refreshed(manifest, table, derived.counts)


def derive(
    store: Store,
    compute: Compute,
    derivation: Derivation,
    partition: str | None,
    previous: pa.Table | None,
    units: Units,
    log: Log,
    *,
    retry_failed: bool = False,
) -> Derived:
    """Bring the rows of a derivation up to date with as few model calls as possible.

    Args:
        previous: rows of the newest version (extra columns are ignored), None where there are none.
        retry_failed: try units again that failed before under the same model, input and version.

    Raises:
        FoundryError: more than a fifth of the units failed, which is no accident of single samples; or the model
            left a unit without an answer. What was answered is kept for the next run.
    """
    pending = store.pending(derivation.name, partition)
    known, rows = _known(store, derivation, partition, previous, pending, log)
    plan = plan_units(
        known, units, derivation, store.accepted_versions(derivation.asset), retry_failed=retry_failed
    )
    results = [results_schema(derivation.schema, derivation.key).empty_table()]
    if plan.todo:
        results += _computed(compute, derivation, units, plan, pending, log)
    fresh = pa.concat_tables(results)
    made_rows = stamped(flat_rows(fresh, derivation), derivation)
    made_units = unit_rows(fresh, known, units, derivation)
    kept_rows = rows.filter(pc.is_in(rows[derivation.key], value_set=_succeeded(plan.kept)))
    sort_by = [(name, "ascending") for name in derivation.sort_by]
    all_rows = (
        pa.concat_tables([kept_rows, made_rows.select(kept_rows.column_names)])
        .sort_by(sort_by)
        .combine_chunks()
    )
    all_units = pa.concat_tables([plan.kept, made_units]).sort_by("key").combine_chunks()
    counts = _counts(plan, all_units, len(fresh))
    return Derived(all_rows, all_units, counts, store, derivation, partition, pending)


def _known(
    store: Store,
    derivation: Derivation,
    partition: str | None,
    previous: pa.Table | None,
    pending: Pending,
    log: Log,
) -> tuple[pa.Table, pa.Table]:
    """Units that are known to be done or failed, one a key, and the rows of those that are done."""
    rows = _in_form(previous, derivation.schema)
    recorded = previous_rows(store, derivation.units_table, partition, log)
    known = UNITS.empty_table() if recorded is None else _complete(recorded, rows, derivation.key)
    journal = unfinished(pending, derivation)
    if journal.num_rows == 0:
        return known, rows
    log(f"{journal.num_rows:,} units of an unfinished run are taken over")
    newer = pc.is_in(known["key"], value_set=journal["key"].combine_chunks())
    older_rows = rows.filter(
        pc.invert(pc.is_in(rows[derivation.key], value_set=journal["key"].combine_chunks()))
    )
    journal_rows = flat_rows(journal, derivation)
    units = pa.concat_tables([known.filter(pc.invert(newer)), journal.select(UNITS.names)])
    return units, pa.concat_tables([older_rows, journal_rows])


def _in_form(previous: pa.Table | None, schema: pa.Schema) -> pa.Table:
    """Stored rows with the role's columns only; none where they were stored in another form."""
    if previous is None or any(
        entry.name not in previous.column_names or previous.schema.field(entry.name).type != entry.type
        for entry in schema
    ):
        return schema.empty_table()
    return previous.select(schema.names).cast(schema)


def _complete(units: pa.Table, rows: pa.Table, key: str) -> pa.Table:
    """Units whose recorded number of rows is there; the others count as never done."""
    counts = rows.group_by(key).aggregate([([], "count_all")])
    found = dict(zip(counts[key].to_pylist(), counts["count_all"].to_pylist(), strict=True))
    columns = (units[name].to_pylist() for name in ("key", "num_rows"))
    return units.filter(
        pa.array([found.get(name, 0) == number for name, number in zip(*columns, strict=True)], pa.bool_())
    )


def _computed(
    compute: Compute, derivation: Derivation, units: Units, plan: Plan, pending: Pending, log: Log
) -> list[pa.Table]:
    """Results of all units to do, journalled on the way."""
    model = derivation.model
    worker = BatchWorker(
        IsolatingWorker, {"inner": model.worker(), "key": derivation.key, "schema": derivation.schema}
    )
    log(f"{derivation.name}: {len(plan.todo):,} units for {model.name}")
    items = units.items(plan.todo)
    collected = _Collected(derivation, Journal(pending, derivation, units))
    try:
        for result in compute.map_shards(worker, items, model.resources, log):
            collected.add(result)
    except DeadlyRows as deaths:  # every other row has been answered by now
        keys = deaths.rows[derivation.key]
        collected.add(failed_results(keys, f"the worker died: {deaths}", derivation.schema, derivation.key))
    finally:
        collected.journal.flush()
    _check_answers(derivation, plan.todo, collected.results)
    return collected.results


class _Collected:
    """Results as they arrive: journalled, counted, and given up when too many fail."""

    def __init__(self, derivation: Derivation, journal: Journal) -> None:
        self.results: list[pa.Table] = []
        self.journal = journal
        self._derivation = derivation
        self._answered = self._failed = 0

    def add(self, result: pa.Table) -> None:
        self.results.append(result)
        self.journal.add(result)
        self._answered += result.num_rows
        self._failed += int(pc.sum(pc.not_equal(result["error"], "")).as_py() or 0)
        _refuse_when_broken(self._derivation, result, self._answered, self._failed)


def _refuse_when_broken(derivation: Derivation, result: pa.Table, answered: int, failed: int) -> None:
    if failed <= max(FEW_FAILURES, MAX_FAILED_SHARE * answered):
        return
    error = next(text for text in reversed(result["error"].to_pylist()) if text) if result.num_rows else ""
    raise FoundryError(
        f"{derivation.name}: {derivation.model.name} failed on {failed:,} of {answered:,} units; more than "
        f"{MAX_FAILED_SHARE:.0%} is no accident of single samples. Last error: {error}. Mend the model or its "
        "settings and materialize again: what was answered is kept."
    )


def _check_answers(derivation: Derivation, todo: Sequence[str], results: Sequence[pa.Table]) -> None:
    """Every unit once: a worker that drops or repeats rows must not go unnoticed."""
    answered = [key for result in results for key in result["key"].to_pylist()]
    missing = set(todo) - set(answered)
    if missing or len(answered) != len(set(answered)):
        raise FoundryError(
            f"{derivation.name}: {derivation.model.name} was asked for {len(todo):,} units and answered "
            f"{len(answered):,}, {len(missing):,} of them missing (such as {next(iter(missing), 'none')!r}). "
            "Its inputs lack these rows: materialize the assets before this one again."
        )


def _succeeded(units: pa.Table) -> pa.Array:
    return units.filter(pc.equal(units["error"], ""))["key"].combine_chunks()


def _counts(plan: Plan, units: pa.Table, num_computed: int) -> dict[str, int]:
    """The figures that every asset page shows."""
    failed = int(pc.sum(pc.not_equal(units["error"], "")).as_py() or 0)
    return {
        "units_reused": plan.kept.num_rows - len(plan.failed),
        "units_new": len(plan.new),
        "units_stale": len(plan.stale),
        "units_failed": failed,
        "units_computed": num_computed,
    }
