"""``foundry import``: land a user's own pictures."""

from __future__ import annotations

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from assets.corpus.importing import import_source
from orchestration.command.output import console, errors, print_rows
from orchestration.workspace import Workspace


def run(workspace: Workspace, source: Path, name: str, *, as_json: bool) -> None:
    """Import with a progress bar, then say what landed, what was set aside and why."""
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors) as progress:
        task = progress.add_task("importing", total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        report = import_source(source, name, workspace.landing_root, show)
    row = {
        "name": report.name,
        "layout": report.layout,
        "samples": report.num_samples,
        "set aside": ", ".join(f"{count} {reason}" for reason, count in sorted(report.quarantined.items()))
        or 0,
        "shards written": len(report.shards_written),
        "unchanged": len(report.shards_unchanged),
        "removed": len(report.shards_removed),
        "folder": str(report.folder),
    }
    print_rows([row], as_json=as_json, title="foundry import")
    if not as_json:
        console.print(f"Run the graph on it: make demo DATA={name}  (or: foundry demo --data {name})")
