"""All tables as DuckDB views, read-only, straight over the store's Parquet files."""

from __future__ import annotations

from typing import Any

import duckdb

from orchestration.resources.store import NO_PARTITION, ManifestStore
from training.errors import FoundryError


def query(store: ManifestStore, text: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query over all tables; partitioned ones have a column ``partition``.

    Raises FoundryError with DuckDB's own sentence when the query is wrong.
    """
    connection = duckdb.connect()
    views: list[str] = []
    try:
        if not store.files.is_local:
            connection.register_filesystem(store.files.filesystem)
        views = _create_views(connection, store)
        result = connection.execute(text)
        return [column[0] for column in result.description or []], result.fetchall()
    except duckdb.Error as error:
        raise FoundryError(
            f"{' '.join(str(error).split())} Tables: {', '.join(views) or 'none yet'}."
        ) from error
    finally:
        connection.close()


def _create_views(connection: duckdb.DuckDBPyConnection, store: ManifestStore) -> list[str]:
    names = []
    for name in store.names():
        keys: list[str | None] = [*store.partitions(name)] or [None]
        manifests = [store.current(name, key) for key in keys]
        tables = [manifest for manifest in manifests if manifest is not None and manifest.kind == "table"]
        if not tables:
            continue
        parts = []
        for manifest in tables:
            store.verify(manifest)
            files = ", ".join(_literal(store.files.address(file.path)) for file in manifest.files)
            label = _literal(manifest.partition or NO_PARTITION)
            parts.append(f"SELECT *, {label} AS partition FROM read_parquet([{files}])")
        connection.execute(f'CREATE VIEW "{name}" AS ' + " UNION ALL BY NAME ".join(parts))
        names.append(name)
    return names


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
