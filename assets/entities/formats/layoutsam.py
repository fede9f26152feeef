"""LayoutSAM's own schemas, training and evaluation (CreatiLayout, arXiv 2412.03859).

Training set: annotations alone, the images are SA-1B's. A row has ``image_path`` ("sa_000123/sa_4567890.jpg") and
``metadata`` with ``global_caption``, ``image_info`` {height, width, file_name} and ``bbox_info``, a list of {bbox
[x1, y1, x2, y2] in pixels, description, detail_description}.

Evaluation set: split ``test``, image inside, and three list columns (``detail_region_captions``, ``region_captions``,
``bbox_list`` in pixels) that are *strings* holding Python literals. They are written by ``repr`` and read by
``ast.literal_eval``, never evaluated; a string that is JSON is read, too. A missing detailed description (None) is
read as the short one, as users of the data do.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.entities.formats.boxes import from_xyxy_px, plain_numbers, to_xyxy_px
from assets.entities.formats.parquet_shards import list_shards, read_rows, write_shards
from assets.entities.formats.records import (
    AnnotatedCaption,
    AnnotatedEntity,
    AnnotatedImage,
    image_suffix,
    read_json,
    safe_path,
)
from training.digests import sha256_bytes
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
IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
EVAL_SCHEMA = pa.schema(
    [
        pa.field("image", IMAGE),
        pa.field("image_id", pa.string()),
        pa.field("global_caption", pa.string()),
        pa.field("detail_region_captions", pa.string()),
        pa.field("region_captions", pa.string()),
        pa.field("bbox_list", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("file_name", pa.string()),
    ],
    metadata={
        "huggingface": json.dumps(
            {
                "info": {
                    "features": {
                        "image": {"_type": "Image"},
                        **{
                            name: {"dtype": kind, "_type": "Value"}
                            for name, kind in (
                                ("image_id", "string"),
                                ("global_caption", "string"),
                                ("detail_region_captions", "string"),
                                ("region_captions", "string"),
                                ("bbox_list", "string"),
                                ("width", "int64"),
                                ("height", "int64"),
                                ("file_name", "string"),
                            )
                        },
                    }
                }
            }
        )
    },
)


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
        entities=_entities(found, width, height, image_path),
        source=PUBLISHED,
    )


def write_layoutsam_eval(folder: Path, records: Iterable[AnnotatedImage], split: str = "test") -> int:
    """Evaluation schema as Parquet shards with the images inside. Returns the rows.

    Raises FoundryError for a record without an image or without a caption: both are the benchmark.
    """
    return write_shards(folder, split, EVAL_SCHEMA, (_eval_row(record) for record in records))[0]


def read_layoutsam_eval(path: Path) -> Iterator[AnnotatedImage]:
    """Images of a folder of Parquet shards (or of one) in the evaluation schema.

    Raises FoundryError for a file or row that is not of the schema or has an impossible box.
    """
    for file in list_shards(path):
        for number, row in enumerate(read_rows(file, EVAL_SCHEMA.names)):
            yield from_eval_row(row, f"{file.name}, row {number}")


def from_eval_row(row: Mapping[str, Any], where: str) -> AnnotatedImage:
    """One row of the evaluation schema. ``where`` goes into the error."""
    lacking = sorted(set(EVAL_SCHEMA.names) - set(row))
    if lacking:
        raise FoundryError(
            f"{where}: lacks {', '.join(lacking)} of LayoutSAM-Eval's columns. Correct the file."
        )
    boxes = parse_list(row["bbox_list"], "bbox_list", where)
    phrases = parse_list(row["region_captions"], "region_captions", where)
    details = parse_list(row["detail_region_captions"], "detail_region_captions", where)
    if not len(boxes) == len(phrases) == len(details):
        raise FoundryError(
            f"{where}: holds {len(boxes)} boxes, {len(phrases)} region captions and {len(details)} detailed ones; "
            "their numbers must agree. Correct the row."
        )
    image = row["image"]["bytes"] if isinstance(row["image"], Mapping) else row["image"]
    width, height = int(row["width"]), int(row["height"])
    caption = row["global_caption"] or ""
    return AnnotatedImage(
        sample_id=str(row["image_id"]),
        image=image,
        width=width,
        height=height,
        file_name=str(row["file_name"] or ""),
        captions=(AnnotatedCaption(caption, PUBLISHED),) if caption else (),
        entities=_entities(
            list(zip(boxes, phrases, details, strict=True)), width, height, str(row["image_id"])
        ),
        source=PUBLISHED,
    )


def parse_list(text: str, column: str, where: str) -> list[Any]:
    """The list that a string holds as a Python literal (or as JSON). Nothing in it is evaluated.

    Raises FoundryError for anything else.
    """
    for parse in (ast.literal_eval, json.loads):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, list):
            return value
    raise FoundryError(
        f"{where}: {column} is {str(text)[:80]!r}; allowed is a string that holds a list. Correct it."
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


def _entities(
    found: list[tuple[Any, Any, Any]], width: int, height: int, image: str
) -> tuple[AnnotatedEntity, ...]:
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


def image_path_of(record: AnnotatedImage) -> str:
    """Where a record's image goes: by its sample, never by its caption, in folders that stay small."""
    suffix = image_suffix(record.image or b"")
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in record.sample_id)[:120]
    if stem != record.sample_id:  # two ids may look alike once strange characters are gone
        stem = f"{stem or 'sample'}-{sha256_bytes(record.sample_id.encode('utf-8', 'replace'))[:8]}"
    return f"{stem[:2]}/{stem}{suffix}"


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


def _eval_row(record: AnnotatedImage) -> dict[str, Any]:
    if record.image is None or not record.global_caption:
        lacking = "image" if record.image is None else "caption"
        raise FoundryError(
            f"sample {record.sample_id}: has no {lacking}, which LayoutSAM-Eval needs. Leave the sample out."
        )
    file_name = Path(image_path_of(record)).name
    boxes = [
        plain_numbers(to_xyxy_px(entity.box_xyxy_norm, record.width, record.height))
        for entity in record.entities
    ]
    return {
        "image": {"bytes": record.image, "path": file_name},
        "image_id": record.sample_id,
        "global_caption": record.global_caption,
        "detail_region_captions": repr([entity.description for entity in record.entities]),
        "region_captions": repr([entity.phrase for entity in record.entities]),
        "bbox_list": repr(boxes),
        "width": record.width,
        "height": record.height,
        "file_name": file_name,
    }
