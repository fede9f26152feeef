"""``foundry export``: write a data set in a format that others read, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from assets.entities.export import FORMATS, export_dataset
from assets.entities.exported import TableName
from orchestration.command.output import console, errors, print_rows
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from training.errors import FoundryError


def run(
    workspace: Workspace,
    folder: Path,
    format_name: str,
    *,
    table: str = "training",
    split: str = "train",
    limit: int | None = None,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Export with a progress bar (images per second, time left), then say what was written and what is lost."""
    tables: tuple[TableName, ...] = get_args(TableName)
    chosen = next((name for name in tables if name == table), None)
    if chosen is None:
        raise FoundryError(f"--table is '{table}'; allowed are {', '.join(tables)}. Use one of them.")
    columns = (
        TextColumn("exporting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        task = progress.add_task("exporting", total=None, rate="")

        def show(done: int, total: int | None) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:,.0f} images/s" if speed else "")

        report = export_dataset(
            ManifestStore(workspace.store),
            folder,
            format_name,
            table=chosen,
            split=split,
            limit=limit,
            overwrite=overwrite,
            title=f"{workspace.data}: {table}",
            progress=show,
        )
    row = {
        "folder": str(report.folder),
        "format": report.format,
        "split": report.split,
        "images": report.num_images,
        "captions": report.num_captions,
        "entities": report.num_entities,
        "left out": report.without_entities,
        "digest": report.dataset_digest[:16],
        "seconds": round(report.seconds, 2),
    }
    if as_json:
        print_rows([row | {"not held": list(report.not_held)}], as_json=True)
        return
    print_rows([row], as_json=False, title="foundry export")
    for text in FORMATS[report.format].not_held:
        console.print(f"not held by {report.format}: {text}", highlight=False)
    console.print(f"card: {report.folder / 'README.md'}", highlight=False)
