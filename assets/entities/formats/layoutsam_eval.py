"""LayoutSAM-Eval's own schema (CreatiLayout, arXiv 2412.03859): prompts with boxes, the image inside.

Split ``test``; three list columns (``detail_region_captions``, ``region_captions``, ``bbox_list`` in pixels) are
*strings* holding Python literals. They are written by ``repr`` and read by :mod:`evaluation.benchmarks.samples`, never
evaluated; a string that is JSON is read, too. A missing detailed description (None) is read as the short one, as users
of the data do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.entities.formats.layoutsam import PUBLISHED
from assets.entities.formats.records import (
    AnnotatedCaption,
    AnnotatedEntity,
    AnnotatedImage,
    image_path_of,
)
from evaluation.benchmarks.samples import image_bytes, sample_of_row
from evaluation.box_conventions import plain_numbers, to_xyxy_px
from evaluation.tables.parquet_shards import list_shards, read_rows, write_shards
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
    if "image" not in row:
        raise FoundryError(f"{where}: lacks image of LayoutSAM-Eval's columns. Correct the file.")
    sample = sample_of_row(row, where)
    return AnnotatedImage(
        sample_id=sample.image_id,
        image=image_bytes(row["image"]),
        width=int(row["width"]),
        height=int(row["height"]),
        file_name=sample.file_name,
        captions=(AnnotatedCaption(sample.caption, PUBLISHED),) if sample.caption else (),
        entities=tuple(AnnotatedEntity(box.phrase, box.detail, box.box_xyxy_norm) for box in sample.boxes),
        source=PUBLISHED,
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
