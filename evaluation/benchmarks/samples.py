"""What a layout benchmark asks for: prompts with boxes, out of the published files or our own.

Three forms are read, told apart by what they hold:

=================== ==================================================================================================
LayoutSAM-Eval      Parquet, one file or a folder of shards: columns image, image_id, global_caption,
                    detail_region_captions, region_captions, bbox_list (pixels of width x height), width, height and
                    file_name. The three lists are *strings* that hold Python literals
our benchmark       Parquet with a row an entity: sample_id, global_caption, phrase, description, box_xyxy_norm
layout files        JSON, a list of layouts as ``foundry layout`` reads them, each with ``image`` (the picture's file
                    name) and, where wanted, a ``description`` of an entity
=================== ==================================================================================================

Boxes are divided by the width and height *of their sample*, never by a constant: the published script scales by 1024 or
512, and on pictures of another size asks about the wrong places (spatial .318 instead of .925).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evaluation.box_conventions import Box, check_box, from_xyxy_px
from evaluation.tables.parquet_shards import list_shards, read_rows
from training.errors import FoundryError

PUBLISHED_COLUMNS = (
    "image_id", "global_caption", "detail_region_captions", "region_captions", "bbox_list", "width", "height",
    "file_name",
)  # fmt: skip
"""Of LayoutSAM-Eval, beside the image itself."""
OWN_COLUMNS = ("sample_id", "global_caption", "phrase", "description", "box_xyxy_norm")
"""Of our benchmark, a row an entity (:data:`assets.graph.schemas.LAYOUT_BENCHMARK`)."""


@dataclass(frozen=True)
class AskedBox:
    """An entity that should stand in a box: its short phrase, its detailed description, normalised corners."""

    phrase: str
    detail: str
    box_xyxy_norm: Box


@dataclass(frozen=True)
class LayoutSample:
    """A prompt and its boxes. ``file_name`` is that of the benchmark's own picture, empty where none is told."""

    image_id: str
    caption: str
    boxes: tuple[AskedBox, ...]
    file_name: str = ""


def read_benchmark(path: Path) -> list[LayoutSample]:
    """The samples of a benchmark, in its order; pictures inside it are not read.

    Raises FoundryError, naming file and row, for a file of no known form, a list that is none, an impossible box, an
    id that stands twice, and a benchmark without any sample.
    """
    if not path.exists():
        raise FoundryError(
            f"benchmark {path}: is not there. Name a Parquet or JSON file, or a folder of shards."
        )
    samples = list(_samples(path))
    if not samples:
        raise FoundryError(
            f"benchmark {path}: holds no sample. Name a folder with *.parquet, or one such file."
        )
    _require_distinct(samples, path)
    return samples


def read_pictures(path: Path) -> Iterator[tuple[str, bytes]]:
    """(image_id, encoded picture) of a benchmark in the published form, one after the other.

    Raises FoundryError for a benchmark without pictures.
    """
    for file in list_shards(path):
        for row in read_rows(file, ("image_id", "image")):
            yield str(row["image_id"]), image_bytes(row["image"])


def image_bytes(image: Any) -> bytes:
    """The bytes of a picture as datasets hold it: {bytes, path}, or the bytes themselves."""
    data: bytes = image["bytes"] if isinstance(image, Mapping) else image
    return data


def sample_of_row(row: Mapping[str, Any], where: str) -> LayoutSample:
    """A row of LayoutSAM-Eval. ``where`` goes into the error. A missing detailed description is read as the phrase."""
    lacking = sorted(set(PUBLISHED_COLUMNS) - set(row))
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
    image_id, width, height = str(row["image_id"]), _side(row, "width", where), _side(row, "height", where)
    asked = tuple(
        AskedBox(
            _text(phrase, "region_captions", where),
            _text(detail, "detail_region_captions", where) or _text(phrase, "region_captions", where),
            from_xyxy_px(values, width, height, image_id, number),
        )
        for number, (phrase, detail, values) in enumerate(zip(phrases, details, boxes, strict=True))
    )
    return LayoutSample(image_id, row["global_caption"] or "", asked, str(row["file_name"] or ""))


def parse_list(text: str, column: str, where: str) -> list[Any]:
    """The list that a string holds as a Python literal (or as JSON). Nothing in it is evaluated.

    Raises FoundryError for anything else.
    """
    # JSON first: read as a Python literal its escaped pairs ("\\ud83d\\ude00") would become two broken characters.
    readers: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
    for parse in readers:
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, list):
            return value
    raise FoundryError(
        f"{where}: {column} is {str(text)[:80]!r}; allowed is a string that holds a list. Correct it."
    )


def samples_of_rows(rows: Iterable[Mapping[str, Any]], where: str = "benchmark") -> Iterator[LayoutSample]:
    """Samples of our own benchmark's rows (:data:`OWN_COLUMNS`), in the order in which they first stand there."""
    captions: dict[str, str] = {}
    boxes: dict[str, list[AskedBox]] = {}
    for number, row in enumerate(rows):
        image_id, name = str(row["sample_id"]), f"{where}, row {number}"
        phrase = _text(row["phrase"], "phrase", name)
        captions.setdefault(image_id, row["global_caption"] or "")
        box = check_box(row["box_xyxy_norm"], image_id, len(boxes.get(image_id, ())))
        asked = AskedBox(phrase, _text(row["description"], "description", name) or phrase, box)
        boxes.setdefault(image_id, []).append(asked)
    for image_id, caption in captions.items():
        yield LayoutSample(image_id, caption, tuple(boxes[image_id]))


def _samples(path: Path) -> Iterator[LayoutSample]:
    if path.suffix == ".json":
        yield from _layout_files(path)
        return
    for file in list_shards(path):
        names = set(_column_names(file))
        if set(PUBLISHED_COLUMNS) <= names:
            for number, row in enumerate(read_rows(file, PUBLISHED_COLUMNS)):
                yield sample_of_row(row, f"{file.name}, row {number}")
        elif set(OWN_COLUMNS) <= names:
            yield from samples_of_rows(read_rows(file, OWN_COLUMNS), file.name)
        else:
            raise FoundryError(
                f"{file}: has the columns {', '.join(sorted(names))}; allowed are LayoutSAM-Eval's (image, "
                f"{', '.join(PUBLISHED_COLUMNS)}) or our own ({', '.join(OWN_COLUMNS)}). Name a file of one of these."
            )


def _column_names(file: Path) -> Sequence[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names: list[str] = pq.read_schema(file).names
    except (pa.ArrowException, OSError) as error:
        raise FoundryError(
            f"{file}: is no Parquet file ({str(error)[:200]}). Name a Parquet or JSON file, or a folder of shards."
        ) from error
    return names


def _layout_files(path: Path) -> Iterator[LayoutSample]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(f"{path}: is no readable JSON ({error}). Write a list of layouts.") from error
    if not isinstance(content, list):
        raise FoundryError(f"{path}: holds a {type(content).__name__}; allowed is a list of layouts.")
    for number, entry in enumerate(content):
        yield _sample_of_layout(entry, f"{path.name}, layout {number}")


def _sample_of_layout(entry: Any, where: str) -> LayoutSample:
    """A layout as in docs/layout.md, with ``image`` and descriptions beside what that form has."""
    from training.layout.entities import layout_of

    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str) or not entry["image"]:
        raise FoundryError(
            f"{where}: has no 'image'; give the picture's file name beside caption and entities."
        )
    entities = entry.get("entities")
    entities = entities if isinstance(entities, list) else []
    details = [entity.get("description") if isinstance(entity, dict) else None for entity in entities]
    plain = {name: value for name, value in entry.items() if name != "image"}
    if entities:
        plain["entities"] = [
            {name: value for name, value in entity.items() if name != "description"}
            if isinstance(entity, dict)
            else entity
            for entity in entities
        ]
    try:
        layout = layout_of(plain)
    except FoundryError as error:
        raise FoundryError(f"{where}: {error}") from error
    boxes = tuple(
        AskedBox(entity.phrase, _text(detail, "description", where) or entity.phrase, entity.box_xyxy_norm)
        for entity, detail in zip(layout.entities, details, strict=True)
    )
    return LayoutSample(PurePosixPath(entry["image"]).stem, layout.caption, boxes, entry["image"])


def _require_distinct(samples: Sequence[LayoutSample], path: Path) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.image_id in seen:
            raise FoundryError(
                f"benchmark {path}: image_id '{sample.image_id}' stands twice; each must stand once. Remove one."
            )
        seen.add(sample.image_id)


def _side(row: Mapping[str, Any], name: str, where: str) -> int:
    try:
        return int(row[name])
    except (TypeError, ValueError) as error:
        raise FoundryError(
            f"{where}: {name} is {row[name]!r}; allowed is a whole number of pixels. Correct the row."
        ) from error


def _text(value: Any, column: str, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise FoundryError(f"{where}: {column} holds {value!r}; allowed are texts. Correct it.")
    return value or ""
