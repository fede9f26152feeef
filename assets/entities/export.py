"""Write a data set of the newest versions in a format that others read, with a card that says what it is.

Rows are streamed from the store into the format's writer; memory holds the captions and entities of one shard group
and one piece of its images. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.entities.card import CardFacts, dataset_card
from assets.entities.exported import Selection, TableName, dropped_rows, leak_findings, model_rows
from assets.entities.formats import coco, huggingface, layoutsam, layoutsam_eval, webdataset
from assets.entities.formats.records import EXPORT_FILE, AnnotatedImage, whole_folder
from assets.entities.tally import Tally
from assets.graph.interfaces import Store
from assets.graph.schemas import SPLITS
from evaluation.tables.parquet_shards import list_shards
from training.errors import FoundryError

Progress = Callable[[int, int | None], None]
"""Called with the images written so far and, where it is known, their total."""
BENCHMARK_SPLIT = "test"


@dataclass(frozen=True)
class Format:
    """A format: how it is written, how it is read back, whether images without entities have a place in it, the
    schema of its Parquet files (for the card's header), and what of an annotated image it cannot hold."""

    write: Callable[[Path, Iterator[AnnotatedImage], str], int]
    read: Callable[[Path], Iterator[AnnotatedImage]]
    needs_entities: bool
    schema: pa.Schema | None
    not_held: tuple[str, ...]


_LAYOUTSAM_LACKS = (
    "captions beyond the first, and who wrote them",
    "masks",
    "scores",
    "licence, attribution, source and split (the card sums them up)",
    "box corners finer than a hundredth of a pixel",
)
FORMATS: Mapping[str, Format] = {
    "layoutsam": Format(
        layoutsam.write_layoutsam,
        layoutsam.read_layoutsam,
        True,
        layoutsam.TRAIN_SCHEMA,
        ("sample ids (image paths are made of them)", *_LAYOUTSAM_LACKS),
    ),
    "layoutsam-eval": Format(
        layoutsam_eval.write_layoutsam_eval,
        layoutsam_eval.read_layoutsam_eval,
        True,
        layoutsam_eval.EVAL_SCHEMA,
        _LAYOUTSAM_LACKS,
    ),
    "coco": Format(
        coco.write_coco,
        coco.read_coco,
        False,
        None,
        (
            "box corners finer than a hundredth of a pixel",
            "masks at another size than the image's (they are scaled)",
        ),
    ),
    "webdataset": Format(webdataset.write_webdataset, webdataset.read_webdataset, False, None, ()),
    "huggingface": Format(
        huggingface.write_huggingface, huggingface.read_huggingface, False, huggingface.SCHEMA, ()
    ),
}


@dataclass(frozen=True)
class ExportReport:
    """What was written. ``dataset_digest`` is over the versions read and the selection, not over the files."""

    folder: Path
    format: str
    table: str
    split: str
    num_images: int
    num_entities: int
    num_captions: int
    without_entities: int
    dataset_digest: str
    not_held: tuple[str, ...]
    seconds: float


def export_dataset(
    store: Store,
    folder: Path,
    format_name: str,
    *,
    table: TableName = "training",
    split: str = "train",
    limit: int | None = None,
    overwrite: bool = False,
    title: str = "Annotated images",
    progress: Progress = lambda done, total: None,
) -> ExportReport:
    """Write the newest versions into ``folder`` and a card (``README.md``) beside them.

    Args:
        store: holds landed_images, curated_images, recaptions, entity_annotations, perhaps entity_masks, and for the
            benchmark layout_benchmark, whose leak check must have passed.
        folder: must be empty or absent unless ``overwrite``; replaced in one step.
        format_name: one of :data:`FORMATS`.
        table: ``training`` (all captions and kept entities of a split) or ``benchmark`` (prompts with their boxes).
        split: of the training table, one of :data:`assets.graph.schemas.SPLITS`; the benchmark's is called ``test``.
        limit: most images to write; None writes all.

    Raises:
        FoundryError: an unknown format, table or split, nothing to export, a folder in use or unwritable, missing
            versions, or versions that changed meanwhile.
    """
    begin = time.monotonic()
    _check_request(format_name, table, split, limit)
    form = FORMATS[format_name]
    selection = Selection(store, table, split, limit)
    tally = Tally()
    out_split = split if table == "training" else BENCHMARK_SPLIT
    with whole_folder(folder, overwrite=overwrite) as staging:
        records = selection.records(form.needs_entities, tally)
        form.write(staging, _counted(records, selection.total, progress), out_split)
        if not tally.num_images:
            raise FoundryError(_nothing(store, table, split, form.needs_entities))
        selection.check_unchanged()
        facts = _card_facts(store, selection, tally, title, format_name, form, out_split)
        header = _header(staging, form, out_split, tally.num_images)
        (staging / "README.md").write_text(dataset_card(facts, header), encoding="utf-8")
        (staging / EXPORT_FILE).write_text(
            json.dumps(selection.request | {"versions": selection.versions}, indent=1)
        )
    return ExportReport(
        folder, format_name, table, out_split, tally.num_images, tally.num_entities, sum(tally.captions.values()),
        tally.without_entities, selection.digest, form.not_held, time.monotonic() - begin,
    )  # fmt: skip


def _check_request(format_name: str, table: str, split: str, limit: int | None) -> None:
    for what, value, allowed in (
        ("--format", format_name, tuple(FORMATS)),
        ("--table", table, ("training", "benchmark")),
        ("--split", split, SPLITS),
    ):
        if value not in allowed:
            raise FoundryError(f"{what} is '{value}'; allowed are {', '.join(allowed)}. Use one of them.")
    if limit is not None and limit < 1:
        raise FoundryError(f"--limit is {limit}; at least 1 is needed. Leave it out to export all.")


def _counted(records: Iterator[AnnotatedImage], total: int, progress: Progress) -> Iterator[AnnotatedImage]:
    for done, record in enumerate(records, start=1):
        yield record
        progress(done, total)


def _header(staging: Path, form: Format, split: str, num_rows: int) -> dict[str, Any]:
    if form.schema is None:
        return {}
    num_bytes = sum(path.stat().st_size for path in list_shards(staging, split))
    return huggingface.dataset_header(form.schema, split, num_rows, num_bytes)


def _nothing(store: Store, table: str, split: str, needs_entities: bool) -> str:
    if table == "benchmark":
        return "export: layout_benchmark is empty. Look at its findings, then materialize it again."
    what = " with a caption and a kept entity" if needs_entities else ""
    hint = "" if store.partitions("entity_annotations") else " entity_annotations was never materialized."
    return f"export: split '{split}' holds no image{what}.{hint} Choose another --split or materialize the graph first."


def _card_facts(
    store: Store,
    selection: Selection,
    tally: Tally,
    title: str,
    format_name: str,
    form: Format,
    split: str,
) -> CardFacts:
    judge = store.current("judge_clip")
    return CardFacts(
        title=title,
        format_name=format_name,
        table=selection.table,
        split=split,
        digest=selection.digest,
        versions=selection.versions,
        tally=tally,
        models=model_rows(store),
        dropped=dropped_rows(store),
        not_held=form.not_held,
        judge_digest="" if judge is None else judge.digest,
        benchmark_findings=leak_findings(store) if selection.table == "benchmark" else {},
    )
