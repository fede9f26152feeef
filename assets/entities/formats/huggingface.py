"""Parquet in the Hugging Face layout: ``data/<split>-00000-of-000NN.parquet`` and a ``README.md`` with a YAML header.

``datasets.load_dataset(FOLDER)`` opens it, the images decoded. The header names features, splits and files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.entities.formats.records import AnnotatedImage, as_json, from_json, image_suffix
from evaluation.tables.parquet_shards import SHARD_BYTES, list_shards, read_rows, write_shards

_CAPTION = pa.struct(
    [pa.field("text", pa.string()), pa.field("model", pa.string()), pa.field("score", pa.float64())]
)
_ENTITY = pa.struct(
    [
        pa.field("phrase", pa.string()),
        pa.field("description", pa.string()),
        pa.field("box_xyxy_norm", pa.list_(pa.float64())),
        pa.field("score", pa.float64()),
        pa.field("detector_score", pa.float64()),
        pa.field("mask_rle", pa.string()),
        pa.field("mask_size", pa.list_(pa.int64())),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        pa.field("text", pa.string()),
        pa.field("sample_id", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("file_name", pa.string()),
        pa.field("source", pa.string()),
        pa.field("split", pa.string()),
        pa.field("license", pa.string()),
        pa.field("attribution", pa.string()),
        pa.field("captions", pa.list_(_CAPTION)),
        pa.field("entities", pa.list_(_ENTITY)),
    ]
)


def write_huggingface(
    folder: Path, records: Iterable[AnnotatedImage], split: str = "train", shard_bytes: int = SHARD_BYTES
) -> int:
    """Write the shards; returns the rows. The header of ``README.md`` is :func:`dataset_header`, the card's matter."""
    return write_shards(folder, split, SCHEMA, (_row(record) for record in records), shard_bytes)[0]


def read_huggingface(path: Path) -> Iterator[AnnotatedImage]:
    """Images of a folder of shards as :func:`write_huggingface` left it, or of one shard.

    Raises FoundryError for a file or row that is not of the form.
    """
    for file in list_shards(path):
        for number, row in enumerate(read_rows(file, SCHEMA.names)):
            image = row["image"]["bytes"] if row["image"] else None
            yield from_json(row, image, f"{file.name}, row {number}")


def dataset_header(schema: pa.Schema, split: str, num_rows: int, num_bytes: int) -> dict[str, Any]:
    """What ``load_dataset`` reads from a card: features with the image decoded, the split, and its files."""
    features = [
        {"name": "image", "dtype": "image"} if field.name == "image" else _feature(field) for field in schema
    ]
    return {
        "configs": [{"config_name": "default", "data_files": [{"split": split, "path": f"data/{split}-*"}]}],
        "dataset_info": {
            "features": features,
            "splits": [{"name": split, "num_bytes": num_bytes, "num_examples": num_rows}],
            "download_size": num_bytes,
            "dataset_size": num_bytes,
        },
    }


def _feature(field: pa.Field) -> dict[str, Any]:
    return {"name": field.name, **_kind(field.type)}


def _kind(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {"struct": [_feature(kind.field(index)) for index in range(kind.num_fields)]}
    if pa.types.is_list(kind):
        inner = _kind(kind.value_type)
        return {"list": inner.get("struct", inner.get("dtype", inner))}
    names: Mapping[pa.DataType, str] = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}
    return {"dtype": names.get(kind, str(kind))}


def _row(record: AnnotatedImage) -> dict[str, Any]:
    name = record.file_name or f"{record.sample_id}{image_suffix(record.image or b'')}"
    image = None if record.image is None else {"bytes": record.image, "path": Path(name).name}
    return {**as_json(dataclasses.replace(record, image=None)), "image": image, "text": record.global_caption}
