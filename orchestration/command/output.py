"""How the command speaks: tables for people, JSON for programs, one sentence for a mistake."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from assets.graph.interfaces import Store
from training.run_folder import write_bytes_atomic

if TYPE_CHECKING:
    import pyarrow as pa

# Where output goes to a file or a pipe there is no width to keep to: tables stay whole.
console = Console(width=None if sys.stdout.isatty() else 150)
errors = Console(stderr=True)
REPORT_FILE = "report.html"


def place_report(store: Store, root: Path) -> Path:
    """Copy the newest report to where a person finds it again, and return its path."""
    path = root / REPORT_FILE
    write_bytes_atomic(path, (store.local_folder("report") / REPORT_FILE).read_bytes())
    return path


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "") -> None:
    """Rows as a table, or as a JSON list."""
    if as_json:
        json.dump(list(rows), sys.stdout, indent=1, default=str, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    if not rows:
        console.print(f"{title}: nothing to show" if title else "nothing to show")
        return
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(shown(value) for value in row.values()))
    console.print(table)


def shown(value: Any) -> str:
    """A cell: numbers short, nothing for None, never interpreted as markup."""
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value)
    return escape(text if len(text) <= 200 else text[:197] + "...")


def write_table(path: Path, table: pa.Table) -> None:
    """A table as Parquet, whole or not at all."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes_atomic(path, buffer.getvalue())


def size_text(size_bytes: int) -> str:
    """A size as people read it; 1 MB is a million bytes."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes} bytes"
