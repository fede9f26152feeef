"""Rows of two table versions matched by key, in DuckDB: bounded memory, whatever the size."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assets.graph.interfaces import Store
from assets.graph.versions import Manifest
from training.errors import FoundryError

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "2GB"


@dataclass(frozen=True)
class RowChange:
    """One row of a difference. ``columns`` maps each changed column to its old and new value."""

    kind: str  # added, removed or changed
    key: dict[str, Any]
    columns: dict[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparedRows:
    """What comparing the rows found; the defaults say that nothing differs."""

    keys: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    changed_columns: dict[str, int] = field(default_factory=dict)
    new_columns: tuple[str, ...] = ()
    gone_columns: tuple[str, ...] = ()
    examples: list[RowChange] = field(default_factory=list)


def compare_rows(
    store: Store,
    name: str,
    old: Sequence[Manifest],
    new: Sequence[Manifest],
    declared_keys: Sequence[str],
    limit: int,
) -> ComparedRows:
    """Match the rows of two sets of versions by ``declared_keys``, or by all columns where a side lacks one of them.

    ``limit`` bounds the examples. Raises FoundryError when the sides have no column in common, StoreError when a
    version is damaged or was collected.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="foundry-diff-") as spill, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET temp_directory='{spill}'")
        connection.execute("SET preserve_insertion_order=false")
        sides = _open_sides(store, name, connection, old, new, tuple(declared_keys))
        if sides is None:
            return ComparedRows()
        _match(sides)
        counts = dict(connection.execute("SELECT kind, count(*) FROM pairs GROUP BY kind").fetchall())
        columns, examples = _changed_columns(sides), _examples(sides, limit)
    return ComparedRows(sides.keys, counts, columns, sides.new_columns, sides.gone_columns, examples)


@dataclass(frozen=True)
class _Sides:
    """Both sides of a comparison as DuckDB views ``side_a`` (before) and ``side_b``, and their columns."""

    connection: duckdb.DuckDBPyConnection
    keys: tuple[str, ...]
    values: tuple[str, ...]
    new_columns: tuple[str, ...]
    gone_columns: tuple[str, ...]
    nested: frozenset[str]

    def hashed(self, columns: Sequence[str]) -> str:
        """What is given to DuckDB's ``hash`` for some columns.

        It does not tell NULL from [] and [NULL]: lists and structs are hashed with their text too, which does.
        """
        parts = []
        for column in columns:
            parts.append(_quote(column))
            if column in self.nested:
                parts.append(f"{_quote(column)}::VARCHAR")
        return ", ".join(parts)


def _open_sides(
    store: Store,
    name: str,
    connection: duckdb.DuckDBPyConnection,
    old: Sequence[Manifest],
    new: Sequence[Manifest],
    declared: tuple[str, ...],
) -> _Sides | None:
    """Register both sides; None where nothing is left to compare."""
    datasets = [[store.scan(version) for version in side] for side in (old, new)]
    columns = [list(dict.fromkeys(name for data in side for name in data.schema.names)) for side in datasets]
    if not any(datasets):
        return None
    for label, side, other in (("side_a", *datasets), ("side_b", *reversed(datasets))):
        parts = side or [other[0].schema.empty_table()]
        for index, part in enumerate(parts):
            connection.register(f"{label}_{index}", part)
        union = " UNION ALL BY NAME ".join(f"SELECT * FROM {label}_{index}" for index in range(len(parts)))
        connection.execute(f"CREATE TEMP VIEW {label} AS {union}")
    before, after = (columns[0] or columns[1]), (columns[1] or columns[0])
    common = [column for column in after if column in before]
    keys = declared if declared and set(declared) <= set(common) else tuple(common)
    if not keys:
        raise FoundryError(
            f"The two versions of '{name}' have no column in common, so no row can be matched."
        )
    return _Sides(
        connection,
        keys,
        tuple(column for column in common if column not in keys),
        tuple(column for column in after if column not in before),
        tuple(column for column in before if column not in after),
        frozenset(
            field.name
            for data in [*datasets[0], *datasets[1]]
            for field in data.schema
            if pa.types.is_nested(field.type)
        ),
    )


def _match(sides: _Sides) -> None:
    """Tables ``rows_a``, ``rows_b`` (rows that do not cancel out) and ``pairs`` (how they were matched).

    Rows are compared by 64-bit hashes of all columns and of the key together, so that only the few that differ are
    ever held; more than fit in memory spill to disk.
    """
    row_hashes = f"hash({sides.hashed(sides.keys)}) AS key_hash, hash('row', {sides.hashed(sides.keys + sides.values)}) AS row_hash"
    sides.connection.execute(
        f"""CREATE TEMP TABLE surplus AS SELECT key_hash, row_hash, sum(sign) AS surplus FROM (
            SELECT {row_hashes}, 1 AS sign FROM side_b UNION ALL SELECT {row_hashes}, -1 FROM side_a)
        GROUP BY key_hash, row_hash HAVING sum(sign) <> 0"""
    )
    hashes = "".join(f", hash({sides.hashed([column])}) AS {_hash_name(column)}" for column in sides.values)
    for side, sign in (("a", -1), ("b", 1)):
        sides.connection.execute(
            f"""CREATE TEMP TABLE rows_{side} AS
            SELECT *, row_number() OVER (PARTITION BY {_list(sides.keys)} ORDER BY row_hash) AS number FROM (
                SELECT rows.* FROM (SELECT {_list(sides.keys)}, {row_hashes}{hashes} FROM side_{side}) AS rows
                JOIN surplus USING (key_hash, row_hash) WHERE {sign} * surplus > 0
                QUALIFY row_number() OVER (PARTITION BY key_hash, row_hash) <= {sign} * surplus)"""
        )
    same_key = " AND ".join(f"a.{_quote(key)} IS NOT DISTINCT FROM b.{_quote(key)}" for key in sides.keys)
    changed = "".join(
        f", a.{_hash_name(column)} IS DISTINCT FROM b.{_hash_name(column)} AS {_hash_name(column)}"
        for column in sides.values
    )
    keys = ", ".join(f"coalesce(a.{_quote(key)}, b.{_quote(key)}) AS {_quote(key)}" for key in sides.keys)
    sides.connection.execute(
        f"""CREATE TEMP TABLE pairs AS SELECT {keys}, a.key_hash AS key_a, a.row_hash AS row_a,
            b.key_hash AS key_b, b.row_hash AS row_b,
            CASE WHEN a.number IS NULL THEN 'added' WHEN b.number IS NULL THEN 'removed' ELSE 'changed' END AS kind
            {changed} FROM rows_a AS a FULL JOIN rows_b AS b ON a.number = b.number AND {same_key}"""
    )


def _changed_columns(sides: _Sides) -> dict[str, int]:
    """How many changed rows differ in each column, most frequent first; columns that never differ are left out."""
    if not sides.values:
        return {}
    sums = ", ".join(f"count_if({_hash_name(column)})" for column in sides.values)
    row = sides.connection.execute(f"SELECT {sums} FROM pairs WHERE kind = 'changed'").fetchone() or ()
    counts = Counter({column: int(count) for column, count in zip(sides.values, row, strict=True) if count})
    return dict(counts.most_common())


def _examples(sides: _Sides, limit: int) -> list[RowChange]:
    """The first changes in order of key, with the values of the columns that differ."""
    connection = sides.connection
    connection.execute(
        f"CREATE TEMP TABLE shown AS SELECT * FROM pairs ORDER BY {_list(sides.keys)}, kind LIMIT {int(limit)}"
    )
    values = [_values_of(sides, side) for side in ("a", "b")]
    found = []
    for row in connection.execute("SELECT * FROM shown").fetchall():
        record = dict(zip((column[0] for column in connection.description or []), row, strict=True))
        old, new = (
            values[0].get((record["key_a"], record["row_a"])),
            values[1].get((record["key_b"], record["row_b"])),
        )
        columns = {
            column: (old[index] if old else None, new[index] if new else None)
            for index, column in enumerate(sides.values)
            if record["kind"] != "changed" or record[_bare_hash_name(column)]
        }
        found.append(RowChange(record["kind"], {key: record[key] for key in sides.keys}, columns))
    return found


def _values_of(sides: _Sides, side: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    """Values of the shown rows of one side, by the hashes of key and row."""
    if not sides.values:
        return {}
    keys, columns = sides.hashed(sides.keys), sides.hashed(sides.keys + sides.values)
    rows = sides.connection.execute(
        f"""SELECT DISTINCT ON (key_hash, row_hash) key_hash, row_hash, {_list(sides.values)} FROM (
            SELECT *, hash({keys}) AS key_hash, hash('row', {columns}) AS row_hash FROM side_{side})
        WHERE (key_hash, row_hash) IN (SELECT (key_{side}, row_{side}) FROM shown)"""
    ).fetchall()
    return {(row[0], row[1]): tuple(row[2:]) for row in rows}


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(names: Sequence[str]) -> str:
    return ", ".join(_quote(name) for name in names)


def _bare_hash_name(column: str) -> str:
    return f"hash of {column}"


def _hash_name(column: str) -> str:
    return _quote(_bare_hash_name(column))
