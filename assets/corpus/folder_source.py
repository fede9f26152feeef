"""A folder of images with their texts: ``.txt`` sidecars, or one ``captions`` file (CSV or JSON lines)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assets.corpus.raw_samples import CAPTION_NAMES, RawSample
from assets.corpus.readers import IMAGE_SUFFIXES, MAX_MEMBER_BYTES
from training.errors import FoundryError

CAPTION_FILES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
"""Where a folder's texts may lie, the first that exists counts; columns ``file_name`` and ``text``."""

_FILE_COLUMNS = ("file_name", "filename", "file", "image", "path")


def list_images(folder: Path) -> list[Path]:
    """Images anywhere below a folder, sorted by relative path; hidden files and folders are passed over."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def caption_file(folder: Path) -> Path | None:
    """The folder's caption file, None when its texts are sidecars."""
    return next((folder / name for name in CAPTION_FILES if (folder / name).is_file()), None)


def read_folder(folder: Path, images: list[Path]) -> Iterator[tuple[str, RawSample]]:
    """(file, sample) of each image and text. The file is what the quarantine names, relative to the folder.

    With a caption file its rows come first, in their order, then the images that no row names (without a text).
    Raises FoundryError for a caption file without the columns ``file_name`` and ``text``.
    """
    captions = caption_file(folder)
    if captions is None:
        for position, path in enumerate(images):
            yield _sample(folder, path, position, _sidecar(path))
        return
    named: dict[str, int] = {}
    for position, row in enumerate(_rows(captions)):
        if isinstance(row, str):
            yield captions.name, RawSample(position, problem=("unreadable", row))
            continue
        name = str(row.get(_column(row, _FILE_COLUMNS)) or "")
        path = folder / name
        if not name or not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            problem = "no_image", f"the row names {name!r}, which is no file below the folder"
            yield captions.name, RawSample(position, key=name, problem=problem)
            continue
        relative = path.resolve().relative_to(folder.resolve()).as_posix()
        named[relative] = named.get(relative, 0) + 1
        text = row.get(_column(row, CAPTION_NAMES))
        yield _sample(folder, folder / relative, position, text, row, named[relative])
    for position, path in enumerate(images):
        if path.relative_to(folder).as_posix() not in named:
            yield _sample(folder, path, position, None)


def _sample(
    folder: Path,
    path: Path,
    position: int,
    text: object,
    row: dict[str, Any] | None = None,
    occurrence: int = 1,
) -> tuple[str, RawSample]:
    """One image with one text. A second text of the same image gets a key of its own."""
    relative = path.relative_to(folder).as_posix()
    key = relative if occurrence == 1 else f"{relative}#{occurrence}"
    try:
        if path.stat().st_size > MAX_MEMBER_BYTES:
            problem = "oversize", f"{path.stat().st_size} bytes, at most {MAX_MEMBER_BYTES} are read"
            return relative, RawSample(position, key=key, problem=problem)
        image = path.read_bytes()
    except OSError as error:
        problem = "unreadable", str(error.strerror)
        return relative, RawSample(position, key=key, problem=problem)
    given = {name: value for name, value in (row or {}).items() if isinstance(value, str) and value}
    return relative, RawSample(
        position,
        key,
        image,
        text if isinstance(text, str) else None,
        split=given.get("split"),
        license=given.get("license", "unknown"),
        attribution=given.get("attribution", ""),
    )


def _sidecar(path: Path) -> str | None:
    """The text beside an image: ``name.txt``, or ``name.jpg.txt``."""
    for candidate in (path.with_suffix(".txt"), path.with_name(path.name + ".txt")):
        if candidate.is_file():
            return candidate.read_bytes().decode("utf-8", "replace")
    return None


def _rows(path: Path) -> Iterator[dict[str, Any] | str]:
    """Rows of a caption file; a string says why a row cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file)
                _check_columns(path, list(reader.fieldnames or []))
                yield from ({name: row[name] for name in row if name is not None} for row in reader)
            else:
                yield from (_json_row(line) for line in file if line.strip())
    except csv.Error as error:
        raise FoundryError(f"{path}: is not CSV ({error}). Correct the file.") from error
    except OSError as error:
        raise FoundryError(f"{path}: cannot be read ({error.strerror}). Allow reading it.") from error


def _json_row(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"the line is not JSON: {error}"
    if not isinstance(row, dict):
        return f"the line holds a {type(row).__name__}, an object with file_name and text was expected"
    return row


def _check_columns(path: Path, columns: list[str]) -> None:
    for what, allowed in (("file_name", _FILE_COLUMNS), ("text", CAPTION_NAMES)):
        if not set(columns) & set(allowed):
            raise FoundryError(
                f"{path}: has no column '{what}', found {', '.join(columns) or 'no header'}. Add it to the first line."
            )


def _column(row: dict[str, Any], allowed: tuple[str, ...]) -> str:
    return next((name for name in allowed if name in row), allowed[0])
