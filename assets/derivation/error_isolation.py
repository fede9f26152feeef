"""A batch function around a model that finds out which unit makes it fail, and answers for all others."""

from __future__ import annotations

import pyarrow as pa

from assets.derivation.nested_rows import nest
from assets.graph.interfaces import BatchFunction, BatchWorker

LONGEST_ERROR = 500


def row_struct(schema: pa.Schema, key: str) -> pa.DataType:
    """The columns of a role's rows but for the key, as one struct."""
    return pa.struct([entry for entry in schema if entry.name != key])


def results_schema(schema: pa.Schema, key: str) -> pa.Schema:
    """Form of a worker's results: one row a unit, with the error or with its rows."""
    rows = pa.list_(row_struct(schema, key))
    return pa.schema([pa.field("key", pa.string()), pa.field("error", pa.string()), pa.field("rows", rows)])


def failed_results(keys: pa.ChunkedArray, error: str, schema: pa.Schema, key: str) -> pa.Table:
    """Results of units that have no answer, each with the same error."""
    columns = {"key": keys, "error": [error[:LONGEST_ERROR]] * len(keys), "rows": [[]] * len(keys)}
    return pa.table(columns, schema=results_schema(schema, key))


class IsolatingWorker:
    """Module-level and built from plain arguments, so that it travels to workers by name.

    A batch that raises is halved until the units at fault stand alone, so that one broken image costs a handful of
    calls and never its shard.
    """

    def __init__(self, inner: BatchWorker, key: str, schema: pa.Schema) -> None:
        self._function: BatchFunction = inner.factory(**inner.kwargs)
        self._key = key
        self._schema = schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row a unit: key, error (empty where it succeeded) and the model's rows as a list of structs."""
        keys = batch[self._key].to_pylist()
        try:
            answers = self._function(batch).select(self._schema.names).cast(self._schema)
            nested = nest(answers, self._key, keys, "rows")
        except Exception as error:  # noqa: BLE001 - a model may raise anything; what it is, is recorded with the unit
            return self._isolated(batch, error)
        columns = {"key": nested[self._key], "error": [""] * len(keys), "rows": nested["rows"]}
        return pa.table(columns, schema=results_schema(self._schema, self._key))

    def _isolated(self, batch: pa.Table, error: Exception) -> pa.Table:
        if batch.num_rows > 1:
            middle = batch.num_rows // 2
            return pa.concat_tables([self(batch.slice(0, middle)), self(batch.slice(middle))])
        message = f"{type(error).__name__}: {error}"
        return failed_results(batch[self._key], message, self._schema, self._key)
