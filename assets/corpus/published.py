"""Annotations that others published: LayoutSAM's files as samples, and their entities kept beside the landed shards.

The entities lie in ``_annotations.parquet`` in the source's landing folder, by sample. They are nobody's input here:
they are another annotator's word, to measure agreement with our own (:func:`as_entity_boxes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assets.corpus.raw_samples import FILE_POSITION, PublishedEntity, RawSample, clean_text
from assets.entities.formats.layoutsam import (
    IMAGES_FOLDER,
    PUBLISHED,
    annotation_rows,
    from_train_row,
)
from assets.entities.formats.layoutsam_eval import from_eval_row
from assets.entities.formats.records import AnnotatedImage
from assets.graph.schemas import ENTITY_BOXES
from evaluation.tables.columns import described
from evaluation.tables.perception import BOX_XYXY_NORM, SAMPLE_ID
from training.digests import sha256_file
from training.errors import FoundryError

ANNOTATIONS_FILE = "_annotations.parquet"
"""Hidden from landing by its first character: it is no shard."""

PUBLISHED_ANNOTATIONS = pa.schema(
    [
        SAMPLE_ID,
        described("entity_index", pa.int32(), "position among the sample's entities, as published, 0-based"),
        described("phrase", pa.string(), "short phrase that names the entity, untrusted"),
        described("description", pa.string(), "detailed description of the region, untrusted"),
        described("box_xyxy_norm", BOX_XYXY_NORM, "normalised x1, y1, x2, y2"),
    ]
)
_ROWS_AT_ONCE = 4096


class AnnotationWriter:
    """Streams published entities into a Parquet file; makes none where there are none. A context manager."""

    def __init__(self, path: Path) -> None:
        self.num_rows = 0
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, sample_id: str, entities: Sequence[PublishedEntity]) -> None:
        """Keep the entities of an admitted sample."""
        self._rows += [
            {
                "sample_id": sample_id,
                "entity_index": index,
                "phrase": clean_text(entity.phrase) or "",
                "description": clean_text(entity.description) or "",
                "box_xyxy_norm": list(entity.box_xyxy_norm),
            }
            for index, entity in enumerate(entities)
        ]
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, PUBLISHED_ANNOTATIONS, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=PUBLISHED_ANNOTATIONS))
        self.num_rows += len(self._rows)
        self._rows = []

    def __enter__(self) -> AnnotationWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            if self._writer is not None:
                self._writer.close()


def read_published(source: Path, layout: str, files: Sequence[Path]) -> Iterator[tuple[str, RawSample]]:
    """(file, sample) of LayoutSAM's (``layoutsam``) or LayoutSAM-Eval's (``layoutsam-eval``) files.

    A row that is not of the schema, has an impossible box, or whose image lies nowhere below ``source`` becomes a
    sample with a problem. The evaluation set is held out; the training set is split by image as any source is.
    """
    root = source if source.is_dir() else source.parent
    places = [root / IMAGES_FOLDER, root]
    for file in files:
        name = file.name if file == source else file.relative_to(source).as_posix()
        position = FILE_POSITION
        try:
            for position, row in enumerate(annotation_rows(file)):
                yield name, _sample(row, layout, places, position)
        except FoundryError as error:
            yield (
                name,
                RawSample(FILE_POSITION, problem=("unreadable", f"after row {position}: {error}"[:300])),
            )


def _sample(row: Any, layout: str, places: list[Path], position: int) -> RawSample:
    try:
        if layout == "layoutsam":
            record = from_train_row(row, places, f"row {position}")
            key, split = record.sample_id, None
        else:
            record = from_eval_row(row, f"row {position}")
            key, split = record.file_name or record.sample_id, "test"
    except FoundryError as error:
        return RawSample(position, problem=("unreadable", str(error)[:300]))
    if record.image is None:
        where = (
            f"below the source's folder; copy or link SA-1B there as '{IMAGES_FOLDER}'"
            if layout == "layoutsam"
            else "in the row"
        )
        return RawSample(position, key=key, problem=("no_image", f"{key} is not {where}"))
    return RawSample(
        position,
        key=key,
        image=record.image,
        text=record.global_caption,
        split=split,
        entities=_entities(record),
    )


def _entities(record: AnnotatedImage) -> tuple[PublishedEntity, ...]:
    return tuple(
        PublishedEntity(entity.phrase, entity.description, entity.box_xyxy_norm) for entity in record.entities
    )


def read_published_annotations(landing_folder: Path) -> pa.Table:
    """Rows of :data:`PUBLISHED_ANNOTATIONS` of an imported source, empty where it brought none.

    Raises FoundryError when the file is damaged.
    """
    path = landing_folder / ANNOTATIONS_FILE
    if not path.is_file():
        return PUBLISHED_ANNOTATIONS.empty_table()
    try:
        return pq.read_table(path).select(PUBLISHED_ANNOTATIONS.names).cast(PUBLISHED_ANNOTATIONS)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise FoundryError(f"{path}: is damaged ({error}). Import the source again.") from error


def as_entity_boxes(landing_folder: Path, annotator: str = PUBLISHED) -> pa.Table:
    """The published entities as rows of :data:`assets.graph.schemas.ENTITY_BOXES`, to compare annotators with.

    Scores are 1: the source gives none. Raises FoundryError when the file is damaged.
    """
    table = read_published_annotations(landing_folder)
    path = landing_folder / ANNOTATIONS_FILE
    count = table.num_rows
    constants: dict[str, Any] = {
        "phrase_index": -1,
        "score": 1.0,
        "name_score": 1.0,
        "model": annotator,
        "model_digest": sha256_file(path) if path.is_file() else "",
        "function_version": 1,
        "annotator": annotator,
    }
    columns = {"box_index": table["entity_index"]} | {
        name: table[name] for name in ("sample_id", "phrase", "box_xyxy_norm")
    }
    arrays = {
        field.name: columns[field.name]
        if field.name in columns
        else pa.array([constants[field.name]] * count, field.type)
        for field in ENTITY_BOXES
    }
    return pa.table(arrays, schema=ENTITY_BOXES)
