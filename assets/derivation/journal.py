"""The journal of an unfinished run: results kept durably every few seconds, so that a killed run goes on."""

from __future__ import annotations

import time

import pyarrow as pa
import pyarrow.compute as pc

from assets.derivation.error_isolation import row_struct
from assets.derivation.nested_rows import nest
from assets.derivation.units import Derivation, Units, flat_rows, stamped, unit_rows
from assets.graph.interfaces import Pending
from assets.graph.schemas import UNITS

SECONDS_BETWEEN_FLUSHES = 5.0


def unfinished(pending: Pending, derivation: Derivation) -> pa.Table:
    """Results of an unfinished run, the last one of each key. Their rows carry who made them, as stored rows do."""
    schema = _journal_schema(derivation)
    tables = [table for table in pending.read() if table.schema.equals(schema)]
    if not tables:
        return schema.empty_table()
    table = pa.concat_tables(tables)
    last = {key: index for index, key in enumerate(table["key"].to_pylist())}
    return table.take(pa.array(sorted(last.values())))


class Journal:
    """Keeps successful results durably every few seconds; failures are not kept, a mended model tries them again."""

    def __init__(self, pending: Pending, derivation: Derivation, units: Units) -> None:
        self._pending = pending
        self._derivation = derivation
        self._units = units
        self._waiting: list[pa.Table] = []
        self._last = time.monotonic()

    def add(self, result: pa.Table) -> None:
        self._waiting.append(result)
        if time.monotonic() - self._last >= SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self) -> None:
        self._last = time.monotonic()
        if not self._waiting:
            return
        done = pa.concat_tables(self._waiting)
        done = done.filter(pc.equal(done["error"], ""))
        self._waiting = []
        if done.num_rows:
            self._pending.append(_journal_rows(done, self._units, self._derivation))


def _journal_rows(results: pa.Table, units: Units, derivation: Derivation) -> pa.Table:
    rows = stamped(flat_rows(results, derivation), derivation)
    keys = results["key"].to_pylist()
    nested = nest(rows, derivation.key, keys, "rows")
    about = unit_rows(results, UNITS.empty_table(), units, derivation)
    return about.append_column("rows", nested["rows"]).cast(_journal_schema(derivation))


def _journal_schema(derivation: Derivation) -> pa.Schema:
    return UNITS.append(pa.field("rows", pa.list_(row_struct(derivation.schema, derivation.key))))
