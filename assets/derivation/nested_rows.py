"""Rows grouped under the key they belong to, and back: one row a unit of work with a list of structs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def nest(rows: pa.Table, key: str, keys: Sequence[str], into: str) -> pa.Table:
    """One row per entry of ``keys`` with the list ``into`` of its rows' other columns, in their order.

    A key without rows gets an empty list. Raises ValueError when a row has a key that is not among ``keys``.
    """
    wanted = pa.array(keys, pa.string())
    position = pc.index_in(rows[key], value_set=wanted)
    if position.null_count:
        stranger = rows[key].filter(pc.is_null(position))[0].as_py()
        raise ValueError(f"a row has the {key} {stranger!r}, which was not asked for")
    places = position.to_numpy().astype(np.int64)
    order = np.argsort(places, kind="stable")
    others = rows.drop_columns([key]).combine_chunks().take(pa.array(order))
    counts = np.bincount(places, minlength=len(wanted))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    structs = _structs(others)
    return pa.table({key: wanted, into: pa.ListArray.from_arrays(offsets, structs)})


def unnest(table: pa.Table, key: str, of: str, schema: pa.Schema) -> pa.Table:
    """Inverse of :func:`nest`: the structs of all lists as rows of ``schema``, each with its key."""
    lists = table[of].combine_chunks()
    parents = pc.list_parent_indices(lists)
    structs = pc.list_flatten(lists)
    columns = {name: pc.struct_field(structs, name) for name in schema.names if name != key}
    columns[key] = table[key].combine_chunks().take(parents)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _structs(table: pa.Table) -> pa.StructArray:
    arrays = [_one_chunk(column) for column in table.columns]
    fields = [table.schema.field(index) for index in range(table.num_columns)]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )
