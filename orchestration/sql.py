"""All tables as DuckDB views, read-only, straight over the store's Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from assets.interfaces import Manifest
from assets.versioning.naming import find, parse_time
from orchestration.resources.store import NO_PARTITION, ManifestStore
from training.errors import FoundryError


def query(
    store: ManifestStore, text: str, *, as_of: str | None = None, versions: Mapping[str, str] | None = None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query over all tables; partitioned ones have a column ``partition``.

    ``as_of`` is an ISO time: every table as it was then. ``versions`` maps tables to versions as
    :func:`assets.versioning.naming.resolve` names them; a digest shows that version of its partition alone.
    Bytes are verified of the tables that the query names. Raises FoundryError with DuckDB's own sentence when the
    query is wrong, and when a version does not exist or was collected.
    """
    if as_of is not None and parse_time(as_of) is None:
        raise FoundryError(
            f"--as-of is '{as_of}', which is no time. Give an ISO date or time such as 2026-01-31T12:00."
        )
    connection = duckdb.connect()
    views: list[str] = []
    try:
        if not store.files.is_local:
            connection.register_filesystem(store.files.filesystem)
        wanted = _chosen_versions(store, as_of or "current", versions or {})
        if as_of is not None and not wanted:
            raise FoundryError(f"--as-of is '{as_of}' (UTC): nothing was stored yet. Give a later time.")
        views = list(wanted)
        named = connection.get_table_names(text) & wanted.keys()
        for name in named or wanted:
            _create_view(connection, store, name, wanted[name], is_named=bool(named))
        result = connection.execute(text)
        return [column[0] for column in result.description or []], result.fetchall()
    except duckdb.Error as error:
        raise FoundryError(
            f"{' '.join(str(error).split())} Tables: {', '.join(views) or 'none yet'}."
        ) from error
    finally:
        connection.close()


def parse_versions(options: Sequence[str]) -> dict[str, str]:
    """``TABLE=VERSION`` options as a mapping. Raises FoundryError for any other form."""
    found = {}
    for option in options:
        name, separator, reference = option.partition("=")
        if not (name and separator and reference):
            raise FoundryError(f"--version is '{option}'; write TABLE=VERSION, such as recaptions=previous.")
        found[name] = reference
    return found


def _chosen_versions(
    store: ManifestStore, reference: str, versions: Mapping[str, str]
) -> dict[str, list[Manifest]]:
    """The table versions that are meant, by name; a table that did not exist yet is left out."""
    names = store.names()
    unknown = [name for name in versions if name not in names]
    if unknown:
        raise FoundryError(
            f"--version names '{unknown[0]}', but the tables are: {', '.join(names) or 'none yet'}."
        )
    chosen = {}
    for name in names:
        keys: list[str | None] = [*store.partitions(name)] or [None]
        found = [find(store, name, key, versions.get(name, reference)) for key in keys]
        tables = [manifest for manifest in found if manifest is not None and manifest.kind == "table"]
        if tables:
            chosen[name] = tables
        elif name in versions:
            raise FoundryError(
                f"'{versions[name]}' is no version of the table '{name}'. `foundry versions {name}` lists them."
            )
    return chosen


def _create_view(
    connection: duckdb.DuckDBPyConnection,
    store: ManifestStore,
    name: str,
    manifests: Sequence[Manifest],
    *,
    is_named: bool,
) -> None:
    """One view over some versions. What the query does not name itself is left out where its bytes are gone."""
    parts = []
    for manifest in manifests:
        if not is_named and store.collected(manifest) is not None:
            return
        store.check_stored(manifest)
        store.verify(manifest)
        files = ", ".join(_literal(store.files.address(file.path)) for file in manifest.files)
        label = _literal(manifest.partition or NO_PARTITION)
        parts.append(f"SELECT *, {label} AS partition FROM read_parquet([{files}])")
    connection.execute(f'CREATE VIEW "{name}" AS ' + " UNION ALL BY NAME ".join(parts))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
