"""Commands that follow pictures: where one went, taking one down, and the way back from a version or a caption."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson, Data, open_store
from orchestration.command.output import console, print_rows

if TYPE_CHECKING:
    from assets.graph.interfaces import Store
    from assets.versioning.impact import Impact

commands = typer.Typer()
Picture = Annotated[
    str,
    typer.Argument(help="path of an image file, an image_id or sample_id (6 digits will do), or source/key"),
]


@commands.command()
def impact(what: Picture, data: Data = None, as_json: AsJson = False) -> None:
    """List every table version that holds an image or sample, and every model that was made with it."""
    from assets.versioning.impact import impact as look
    from assets.versioning.subjects import find_subject

    store = open_store(data)
    _show_impact(look(store, find_subject(store, what)), as_json=as_json)


@commands.command()
def remove(
    what: Picture,
    because: Annotated[str, typer.Option(help="why; kept in the log")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="allow the image again")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take an image down: the next versions leave it out, and models that were trained on it are marked."""
    from orchestration.takedown import remove as take_down

    found = take_down(open_store(data), what, because, undo=undo)
    if as_json:
        record = {"changed": found.changed, "undo": found.undo, "next_steps": found.next_steps}
        print_rows([{**record, **_impact_record(found.impact)}], as_json=True)
        return
    action = "allowed again" if undo else "removed"
    said = action if found.changed else f"{action} already"
    console.print(f"image {found.impact.subject.image_id}: {said}", highlight=False, soft_wrap=True)
    _show_impact(found.impact, as_json=False)
    for step in found.next_steps:
        console.print(f"- {step}", highlight=False, soft_wrap=True)


def _impact_record(found: Impact) -> dict[str, Any]:
    subject = found.subject
    return {
        "image_id": subject.image_id,
        "is_removed": found.is_removed,
        "sample_ids": sorted(subject.sample_ids),
        "keys": list(subject.keys),
        "splits": sorted(subject.splits),
        "versions": [asdict(holding) for holding in found.holdings],
        "models": [asdict(use) for use in found.models],
    }


def _show_impact(found: Impact, *, as_json: bool) -> None:
    record = _impact_record(found)
    if as_json:
        print_rows([record], as_json=True)
        return
    for name in ("image_id", "sample_ids", "keys", "splits"):
        value = record[name]
        console.print(
            f"{name}: {value if isinstance(value, str) else ', '.join(value)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if found.is_removed:
        console.print("[yellow]removed[/yellow]: new versions leave it out")
    if not found.subject.is_known:
        console.print("It is in no version whose bytes are there; what was marked before is still listed.")
    rows = [_version_row(asdict(holding)) for holding in found.holdings]
    print_rows(rows, as_json=False, title="versions that hold it")
    print_rows(
        [_version_row(asdict(use)) for use in found.models], as_json=False, title="models made with it"
    )


def _version_row(values: dict[str, Any]) -> dict[str, Any]:
    row = {**values, "digest": values["digest"][:12]}
    if "splits" in row:
        row["splits"] = ", ".join(row["splits"])
    return row


@commands.command()
def lineage(
    asset: Annotated[str, typer.Argument(help="asset name, such as backbone")],
    partition: Annotated[str | None, typer.Argument(help="its partition, such as a recipe")] = None,
    sample: Annotated[
        str | None,
        typer.Option(help="with training_shards: one sample, from each caption back to image and model"),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Walk from a version back to landed data: versions, code, config and digests; with --sample, row by row."""
    from assets.graph.lineage import parse_target

    store = open_store(data)
    name, key = parse_target(store, asset, partition)
    if sample is not None:
        _show_sample(store, name, key, sample, as_json=as_json)
        return
    _show_lineage(store, name, key, as_json=as_json)


def _show_lineage(store: Store, name: str, partition: str | None, *, as_json: bool) -> None:
    from assets.graph.lineage import as_records, trace
    from assets.versioning.removal import removed_images_behind

    records = as_records(trace(store, name, partition))
    records[0]["removed_images"] = removed_images_behind(store, store.require(name, partition))
    if as_json:
        print_rows(records, as_json=True)
        return
    for record in records:
        indent = "  " * record["depth"]
        version = (
            f"v{record['function_version']}, {record['created_at'][:19]}" if "asset" in record else "outside"
        )
        rows = "" if record.get("num_rows") is None else f", {record['num_rows']:,} rows"
        console.print(
            f"{indent}{record['version']}  {record['digest'][:12]}  ({version}{rows})", highlight=False
        )
    for image_id in records[0]["removed_images"]:
        console.print(f"[yellow]made from removed image[/yellow] {image_id}", highlight=False, soft_wrap=True)


def _show_sample(store: Store, name: str, partition: str | None, sample: str, *, as_json: bool) -> None:
    from assets.versioning.samples import sample_lineage

    found = sample_lineage(store, name, partition, sample)
    if as_json:
        print_rows([asdict(found)], as_json=True)
        return
    for label, value in found.image.items():
        console.print(f"{label}: {value}", highlight=False, markup=False, soft_wrap=True)
    captions = [
        {**caption, "model_digest": (caption["model_digest"] or "")[:12]} for caption in found.captions
    ]
    print_rows(captions, as_json=False, title="captions")
    made = [{"rows of": table, **row} for table, rows in found.derived.items() for row in rows]
    print_rows(
        [{**row, "model_digest": row["model_digest"][:12]} for row in made], as_json=False, title="also made"
    )
    read = [{"table": label, "version": digest[:12]} for label, digest in found.versions.items()]
    print_rows(read, as_json=False, title="versions that were read")
