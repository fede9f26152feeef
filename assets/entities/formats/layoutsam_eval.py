"""LayoutSAM-Eval's own schema (CreatiLayout, arXiv 2412.03859): prompts with boxes, the image inside.

Split ``test``; three list columns (``detail_region_captions``, ``region_captions``, ``bbox_list`` in pixels) are
*strings* holding Python literals. They are written by ``repr`` and read by ``ast.literal_eval``, never evaluated; a
string that is JSON is read, too. A missing detailed description (None) is read as the short one, as users of the data
do.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.entities.formats.boxes import plain_numbers, to_xyxy_px
from assets.entities.formats.layoutsam import PUBLISHED, entities_of
from assets.entities.formats.parquet_shards import list_shards, read_rows, write_shards
from assets.entities.formats.records import AnnotatedCaption, AnnotatedImage, image_path_of
from training.errors import FoundryError

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
        entities=entities_of(
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
