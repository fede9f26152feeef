"""Commands over versions: what there is, what differs, what may go, what is accepted as equal."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson, Data, Partition, open_store
from orchestration.command.output import console, print_rows, size_text

if TYPE_CHECKING:
    from assets.versioning.diff import Difference
    from assets.versioning.rows import RowChange
    from orchestration.garbage_collection import Collection

commands = typer.Typer()
Name = Annotated[str, typer.Argument(help="table or folder, such as recaptions or backbone")]
_REFERENCE = "a digest's first 6 or more digits, current, previous, first, or an ISO time"


@commands.command()
def versions(name: Name, partition: Partition = None, data: Data = None, as_json: AsJson = False) -> None:
    """List every version of a table or folder, newest first."""
    from assets.versioning.naming import known_versions, version_record

    rows = [version_record(known) for known in known_versions(open_store(data), name, partition)]
    if not as_json:
        for row in rows:
            row.update(
                {"version": row["version"][:12], "made": row["made"][:19], "bytes": size_text(row["bytes"])}
            )
    print_rows(rows, as_json=as_json, title=f"versions of {name}, times in UTC")


@commands.command()
def diff(
    name: Name,
    before: Annotated[str, typer.Argument(help=f"older version: {_REFERENCE}")] = "previous",
    after: Annotated[str, typer.Argument(help="newer version, named in the same way")] = "current",
    partition: Partition = None,
    limit: Annotated[int, typer.Option(min=0, help="changes that are shown one by one")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say which rows (or files) were added, removed and changed between two versions, and why."""
    from assets.versioning.diff import diff as compare

    found = compare(open_store(data), name, before, after, partition, limit)
    if as_json:
        print_rows([{**asdict(found), "unchanged": found.unchanged}], as_json=True)
        return
    _show_difference(found)


def _show_difference(found: Difference) -> None:
    unit = "rows" if found.kind == "table" else "files"
    ends = [
        ", ".join(f"{key} {digest[:12]}".strip() for key, digest in side.items())
        for side in (found.before, found.after)
    ]
    if len(found.before) > 3:
        ends = [f"{len(found.before)} partitions", f"{len(found.after)} partitions"]
    console.print(f"{found.name}: {ends[0] or 'nothing'} -> {ends[1] or 'nothing'}", highlight=False)
    console.print(
        f"{unit}: {found.num_before:,} -> {found.num_after:,}; {found.added:,} added, {found.removed:,} removed, "
        f"{found.changed:,} changed, {found.unchanged:,} unchanged",
        highlight=False,
    )
    for label, names in (("new columns", found.new_columns), ("columns that are gone", found.gone_columns)):
        if names:
            console.print(f"{label}: {', '.join(names)}", highlight=False, markup=False)
    if found.changed_columns:
        counts = ", ".join(f"{column} in {count:,}" for column, count in found.changed_columns.items())
        console.print(f"changed: {counts}", highlight=False, markup=False)
    for reason in found.reasons:
        console.print(f"because: {reason}", highlight=False, markup=False, soft_wrap=True)
    if found.examples:
        print_rows([_change(change) for change in found.examples], as_json=False, title="the first changes")


def _change(change: RowChange) -> dict[str, Any]:
    key = ", ".join(_short(value) for value in change.key.values())
    shown = {column: values for column, values in change.columns.items() if change.kind == "changed"}
    values = "; ".join(f"{column}: {_short(old)} -> {_short(new)}" for column, (old, new) in shown.items())
    return {"change": change.kind, "key": key, "old -> new": values}


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value)
    return text if len(text) <= 48 else f"{text[:45]}..."


@commands.command()
def gc(
    keep: Annotated[int, typer.Option(min=1, help="newest versions of everything that stay")] = 3,
    older_than: Annotated[
        float, typer.Option(min=0, help="days since a version was replaced, before it may go")
    ] = 0.0,
    takedowns: Annotated[
        bool,
        typer.Option("--takedowns", help="old versions that hold removed images go too, whoever needs them"),
    ] = False,
    grace_minutes: Annotated[
        float, typer.Option(min=0, help="nothing younger is touched: a run may be about to use it")
    ] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="remove; without it, only show")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show which bytes nobody needs any more, and with --yes remove them. Manifests stay for ever."""
    from orchestration.garbage_collection import Rules, collect, plan_collection

    store = open_store(data)
    rules = Rules(keep, older_than, grace_minutes * 60, takedowns)
    collection = plan_collection(store, rules)
    freed = collect(store, collection, rules) if yes else None
    rows = _collection_rows(collection)
    if as_json:
        summary = {
            "bytes": collection.size_bytes,
            "protected": collection.num_protected,
            "freed_bytes": freed,
        }
        print_rows([{**summary, "what": rows}], as_json=True)
        return
    print_rows([{**row, "bytes": size_text(row["bytes"])} for row in rows], as_json=False, title="foundry gc")
    if collection.num_protected:
        console.print(
            f"{collection.num_protected} older versions stay: models or data sets that are kept were made from them."
        )
    if freed is not None:
        console.print(f"Removed {size_text(freed)}.")
    elif rows:
        console.print(
            f"Nothing was removed. To remove {size_text(collection.size_bytes)}, say it again with --yes."
        )


def _collection_rows(collection: Collection) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for version in collection.versions:
        key = (version.manifest.name, version.because)
        row = rows.setdefault(key, {"what": key[0], "versions": 0, "files": 0, "bytes": 0, "because": key[1]})
        row["versions"] += 1
        row["files"] += len(version.files)
        row["bytes"] += version.size_bytes
    for label, files in (
        ("left by interrupted writes", collection.orphans),
        ("journals of abandoned runs", collection.pending),
    ):
        if files:
            size_bytes = sum(facts.size_bytes for facts in files)
            rows[(label, "")] = {
                "what": label,
                "versions": None,
                "files": len(files),
                "bytes": size_bytes,
                "because": "nobody refers to them",
            }
    return list(rows.values())


@commands.command("accept-version")
def accept_version(
    asset: Annotated[str, typer.Argument(help="asset whose function version was raised")],
    because: Annotated[str, typer.Option(help="why old rows equal what the new version would make")] = "",
    from_version: Annotated[
        int | None, typer.Option("--from", min=1, help="the old version; default: those of the stored rows")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="take the declaration back")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Declare rows of an old function version equivalent to today's, so that they are not made again. Logged."""
    from orchestration.accept_version import accept_version as accept

    records = accept(open_store(data), asset, from_version, because, undo=undo)
    print_rows([asdict(record) for record in records], as_json=as_json, title="foundry accept-version")
