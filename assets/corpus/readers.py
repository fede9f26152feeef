"""Readers of the two shard formats, Parquet with image bytes and WebDataset tar. They stream and never give up:
what cannot be read becomes a sample with a ``problem``, and the rest goes on.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assets.corpus.raw_samples import CAPTION_NAMES, FILE_POSITION, RawSample

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TEXT_SUFFIXES = (".txt", ".caption", ".json")
MAX_MEMBER_BYTES = 256 * 2**20
"""Largest file inside a tar that is read into memory."""

_IMAGE_COLUMNS = ("image", "jpg", "png", "webp", "image_bytes", "img")
_EXTRA_COLUMNS = ("key", "split", "license", "attribution")
_TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError)
_END_OF_TAR = bytes(1024)


def read_parquet(path: Path, name: str, batch_rows: int = 64) -> Iterator[RawSample]:
    """Rows of a Parquet file; ``image`` is a struct of bytes and path, or plain bytes.

    Memory is bounded by ``batch_rows`` rows. A damaged row group becomes a problem at its first unread row, and the
    next group goes on.
    """
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            columns = file.schema_arrow.names
            image_column = next((column for column in _IMAGE_COLUMNS if column in columns), None)
            text_column = next((column for column in CAPTION_NAMES if column in columns), None)
            if image_column is None or text_column is None:
                lacking = "an image column" if image_column is None else "a text column"
                detail = f"lacks {lacking}; columns are {', '.join(columns)}"
                yield RawSample(FILE_POSITION, problem=("unreadable", detail))
                return
            first = 0
            for group in range(file.num_row_groups):
                for position, row in _group_rows(file, group, first, image_column, text_column, batch_rows):
                    if isinstance(row, str):
                        yield RawSample(position, problem=("unreadable", row))
                    else:
                        yield _from_row(row, position, name, image_column, text_column)
                first += file.metadata.row_group(group).num_rows
    except (pa.ArrowException, OSError) as error:
        yield RawSample(FILE_POSITION, problem=("unreadable", str(error)[:300]))


def _group_rows(
    file: pq.ParquetFile, group: int, first: int, image_column: str, text_column: str, batch_rows: int
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(position, row) of one row group; a string in the place of a row says why the group cannot be read on."""
    extra = [column for column in _EXTRA_COLUMNS if column in file.schema_arrow.names]
    position = first
    try:
        wanted = [image_column, text_column, *extra]
        for batch in file.iter_batches(batch_rows, row_groups=[group], columns=wanted):
            for row in batch.to_pylist():
                yield position, row
                position += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        last = first + file.metadata.row_group(group).num_rows - 1
        yield position, f"rows {position} to {last}: {error}"[:300]


def read_tar(path: Path, name: str) -> Iterator[RawSample]:
    """Samples of a WebDataset tar (plain or compressed): consecutive members that share a name up to the first dot.

    A truncated archive yields what was whole, then a problem. The position is the number of the sample's first member.
    """
    group = _TarGroup(name)
    number = 0
    try:
        with tarfile.open(path, "r:*") as archive:
            for number, member in enumerate(archive):
                if not member.isfile():
                    continue
                stem, suffix = _split_member(member.name)
                if stem != group.stem:
                    yield from group.finish()
                    group = _TarGroup(name, stem, number)
                group.add(archive, member, suffix)
        yield from group.finish()
        if _lacks_end(path):
            yield RawSample(FILE_POSITION, problem=("truncated", "the archive has no end marker"))
    except _TAR_ERRORS as error:
        yield from group.finish(cut_short=True)
        reason = "truncated" if number or group.stem or _is_tar_start(path) else "unreadable"
        position = number if reason == "truncated" else FILE_POSITION
        yield RawSample(position, problem=(reason, str(error)[:300] or type(error).__name__))


class _TarGroup:
    """Members of one sample, gathered until the next one begins."""

    def __init__(self, archive_name: str, stem: str = "", position: int = 0) -> None:
        self.stem = stem
        self._key = f"{archive_name}/{stem}"
        self._position = position
        self._parts: dict[str, bytes] = {}
        self._problem: tuple[str, str] | None = None

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> None:
        """Read one member when it is an image or a text. Raises tarfile's errors on a truncated archive."""
        if suffix not in IMAGE_SUFFIXES + TEXT_SUFFIXES:
            return
        if member.size > MAX_MEMBER_BYTES:
            self._problem = "oversize", f"{member.name} has {member.size} bytes, at most {MAX_MEMBER_BYTES}"
            return
        file = archive.extractfile(member)
        data = file.read() if file else b""
        if len(data) < member.size:
            raise tarfile.ReadError(f"{member.name} ends after {len(data)} of {member.size} bytes")
        self._parts.setdefault(suffix, data)

    def finish(self, cut_short: bool = False) -> Iterator[RawSample]:
        """The gathered sample, if there is one. A sample that was cut short counts only when it is whole."""
        image = next((self._parts[suffix] for suffix in IMAGE_SUFFIXES if suffix in self._parts), None)
        fields = _text_fields(self._parts)
        if not self.stem or (cut_short and (image is None or fields.get("text") is None)):
            return
        if not self._parts and self._problem is None:
            return
        yield RawSample(self._position, self._key, image, problem=self._problem, **fields)


def _text_fields(parts: dict[str, bytes]) -> dict[str, Any]:
    """Text and optional split, licence and credit of a sample, from its text members."""
    fields: dict[str, Any] = {}
    try:
        content = json.loads(parts.get(".json", b"{}"))
    except ValueError:  # broken JSON or not UTF-8: the sample may still have a .txt
        content = {}
    if isinstance(content, dict):
        fields = {
            name: content[name]
            for name in ("split", "license", "attribution")
            if isinstance(content.get(name), str)
        }
        fields["text"] = next((content[name] for name in CAPTION_NAMES if content.get(name)), None)
    elif isinstance(content, str):
        fields["text"] = content
    for suffix in (".caption", ".txt"):
        if parts.get(suffix, b"").strip():
            fields["text"] = parts[suffix].decode("utf-8", "replace")
    if not isinstance(fields.get("text"), str):
        fields["text"] = None
    return fields


def _from_row(
    row: dict[str, Any], position: int, file_name: str, image_column: str, text_column: str
) -> RawSample:
    image = row[image_column]
    if isinstance(image, dict):
        image = image.get("bytes")
    text = row[text_column]
    if isinstance(text, list):
        text = next((item for item in text if item), None)
    return RawSample(
        position,
        key=str(row.get("key") or f"{file_name}:{position}"),
        image=image if isinstance(image, bytes) else None,
        text=text if isinstance(text, str) else None,
        split=row["split"] if isinstance(row.get("split"), str) else None,
        license=str(row.get("license") or "unknown"),
        attribution=str(row.get("attribution") or ""),
    )


def _split_member(name: str) -> tuple[str, str]:
    """Folder and name up to the first dot, and the last suffix in lower case."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.split(".", 1)[0] or path.name)), path.suffix.lower()


def _lacks_end(path: Path) -> bool:
    """Whether a plain tar lacks the two empty blocks that end one (compressed ones have checks of their own)."""
    if not path.name.endswith(".tar"):
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END_OF_TAR)))
        return file.read() != _END_OF_TAR


def _is_tar_start(path: Path) -> bool:
    """Whether the file begins as a tar does, whatever became of the rest."""
    try:
        with path.open("rb") as file:
            return file.read(262)[257:262] == b"ustar"
    except OSError:
        return False
