"""LayoutSAM's own training schema (CreatiLayout, arXiv 2412.03859), and which of its two schemas a file has.

Annotations alone, the images are SA-1B's. A row has ``image_path`` ("sa_000123/sa_4567890.jpg") and ``metadata`` with
``global_caption``, ``image_info`` {height, width, file_name} and ``bbox_info``, a list of {bbox [x1, y1, x2, y2] in
pixels, description, detail_description}. A missing detailed description is read as the short one, as users of the data
do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.entities.formats.records import (
    AnnotatedCaption,
    AnnotatedEntity,
    AnnotatedImage,
    image_path_of,
    read_json,
    safe_path,
)
from evaluation.box_conventions import from_xyxy_px, to_xyxy_px
from evaluation.tables.parquet_shards import list_shards, read_rows, write_shards
from training.errors import FoundryError

PUBLISHED = "LayoutSAM"
"""``model`` of captions, and name of the annotator, read from published files."""
IMAGES_FOLDER = "images"

_BOX_INFO = pa.struct(
    [
        pa.field("bbox", pa.list_(pa.float64())),
        pa.field("description", pa.string()),
        pa.field("detail_description", pa.string()),
    ]
)
_IMAGE_INFO = pa.struct(
    [pa.field("height", pa.int64()), pa.field("width", pa.int64()), pa.field("file_name", pa.string())]
)
_METADATA = pa.struct(
    [
        pa.field("global_caption", pa.string()),
        pa.field("image_info", _IMAGE_INFO),
        pa.field("bbox_info", pa.list_(_BOX_INFO)),
    ]
)
TRAIN_SCHEMA = pa.schema([pa.field("image_path", pa.string()), pa.field("metadata", _METADATA)])


def write_layoutsam(folder: Path, records: Iterable[AnnotatedImage], split: str = "train") -> int:
    """Training schema as Parquet shards, with the images beside it under ``images/<image_path>``. Returns the rows."""
    return write_shards(folder, split, TRAIN_SCHEMA, (_train_row(folder, record) for record in records))[0]


def read_layoutsam(path: Path, images: Path | None = None) -> Iterator[AnnotatedImage]:
    """Images of annotation files in the training schema: a folder of them, or one ``.parquet``, ``.jsonl`` or ``.json``.

    ``images`` is the folder below which ``image_path`` lies (default: ``images/`` beside the annotations, or the
    annotations' own folder). An absent image is read as None, with its annotations.
    Raises FoundryError for a row that is not of the schema or has an impossible box.
    """
    root = path if path.is_dir() else path.parent
    places = [images] if images is not None else [root / IMAGES_FOLDER, root]
    for file in annotation_files(path):
        for number, row in enumerate(annotation_rows(file)):
            yield from_train_row(row, places, f"{file.name}, row {number}")


def annotation_files(path: Path) -> list[Path]:
    """Files that may hold annotations in the training schema: the file itself, or those of a folder."""
    if path.is_file():
        return [path]
    parquet = list_shards(path)
    return parquet or sorted([*path.glob("*.jsonl"), *path.glob("*.json")])


def from_train_row(row: Mapping[str, Any], places: list[Path], where: str) -> AnnotatedImage:
    """One row of the training schema; ``metadata`` may be a JSON string. ``where`` goes into the error."""
    try:
        metadata = row["metadata"]
        metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
        info, boxes = metadata["image_info"], metadata["bbox_info"] or []
        image_path = str(row["image_path"])
        width, height = int(info["width"]), int(info["height"])
        found = [(box["bbox"], box["description"], box.get("detail_description")) for box in boxes]
        caption, file_name = metadata["global_caption"] or "", str(info["file_name"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FoundryError(
            f"{where}: is not LayoutSAM's training schema ({type(error).__name__}: {error}); needed are image_path and "
            "metadata with global_caption, image_info and bbox_info. Correct the file."
        ) from error
    return AnnotatedImage(
        sample_id=image_path,
        image=_image_below(places, image_path),
        width=width,
        height=height,
        file_name=file_name,
        captions=(AnnotatedCaption(caption, PUBLISHED),) if caption else (),
        entities=entities_of(found, width, height, image_path),
        source=PUBLISHED,
    )


def layoutsam_kind(path: Path) -> str | None:
    """``layoutsam`` or ``layoutsam-eval`` by the first annotation file of a folder (or by a file), None for neither."""
    import pyarrow.parquet as pq

    for file in annotation_files(path)[:1]:
        if file.suffix == ".parquet":
            try:
                names = set(pq.read_schema(file).names)
            except (pa.ArrowException, OSError):
                return None
            if {"global_caption", "bbox_list", "region_captions", "image"} <= names:
                return "layoutsam-eval"
            return "layoutsam" if {"image_path", "metadata"} <= names else None
        try:
            row = next(annotation_rows(file), None)
        except FoundryError:
            return None
        return "layoutsam" if isinstance(row, dict) and {"image_path", "metadata"} <= set(row) else None
    return None


def annotation_rows(file: Path) -> Iterator[Any]:
    """Rows of an annotation file of either schema, not yet believed. Raises FoundryError that names the file."""
    if file.suffix == ".parquet":
        yield from read_rows(file)
    elif file.suffix == ".jsonl":
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise FoundryError(
                        f"{file}: line {number + 1} is not JSON ({error}). Correct it."
                    ) from error
    else:
        content = read_json(file)
        yield from content if isinstance(content, list) else [content]


def entities_of(
    found: list[tuple[Any, Any, Any]], width: int, height: int, image: str
) -> tuple[AnnotatedEntity, ...]:
    """Entities of (corners in pixels, phrase, detailed description or None). Raises FoundryError for an impossible box."""
    entities = []
    for number, (values, phrase, detail) in enumerate(found):
        box = from_xyxy_px(values, width, height, image, number)
        entities.append(AnnotatedEntity(phrase or "", detail or phrase or "", box))
    return tuple(entities)


def _image_below(places: list[Path], image_path: str) -> bytes | None:
    relative = safe_path(image_path)
    if relative is None:
        return None
    for place in places:
        path = place / relative
        if path.is_file() and path.resolve().is_relative_to(place.resolve()):
            return path.read_bytes()
    return None


def _train_row(folder: Path, record: AnnotatedImage) -> dict[str, Any]:
    image_path = image_path_of(record)
    if record.image is not None:
        target = folder / IMAGES_FOLDER / image_path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(record.image)
    boxes = [
        {
            "bbox": list(to_xyxy_px(entity.box_xyxy_norm, record.width, record.height)),
            "description": entity.phrase,
            "detail_description": entity.description,
        }
        for entity in record.entities
    ]
    info = {"height": record.height, "width": record.width, "file_name": Path(image_path).name}
    metadata = {"global_caption": record.global_caption, "image_info": info, "bbox_info": boxes}
    return {"image_path": image_path, "metadata": metadata}
