"""All tables as DuckDB views, read-only, straight over the store's Parquet files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from assets.graph.versions import Manifest
from assets.versioning.naming import find, parse_time
from orchestration.resources.history import NO_PARTITION
from orchestration.resources.store import ManifestStore
from training.errors import FoundryError


@dataclass(frozen=True)
class Limits:
    """How much of the machine a query may take; beyond ``memory_gb`` it spills to disk. None leaves it to DuckDB."""

    threads: int | None = None
    memory_gb: float | None = None


def query(
    store: ManifestStore,
    text: str,
    *,
    as_of: str | None = None,
    versions: Mapping[str, str] | None = None,
    limits: Limits | None = None,
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
    connection = duckdb.connect(config=_settings(limits or Limits()))
    views: list[str] = []
    try:
        if not store.files.is_local:
            connection.register_filesystem(store.files.filesystem)
        wanted = _chosen_versions(store, as_of or "current", versions or {})
        if as_of is not None and not wanted:
            raise FoundryError(f"--as-of is '{as_of}' (UTC): nothing was stored yet. Give a later time.")
        views = list(wanted)
        named = _tables_in(connection, text) & wanted.keys()
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


def _tables_in(connection: duckdb.DuckDBPyConnection, text: str) -> set[str]:
    """Names that a SELECT reads from; empty for any other statement, and where it cannot be parsed."""
    row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchone()
    waiting: list[Any] = [json.loads(row[0])] if row else []
    found = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                found.add(str(node.get("table_name", "")).lower())
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found


def _settings(limits: Limits) -> dict[str, Any]:
    chosen = {
        "threads": limits.threads,
        "memory_limit": None if limits.memory_gb is None else f"{limits.memory_gb}GB",
        "temp_directory": str(Path(tempfile.gettempdir()) / "foundry-sql"),
    }
    return {name: value for name, value in chosen.items() if value is not None}


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
