"""Bring a collection of one's own into the landing folder: stream it into Parquet shards, set aside what is unusable.

Safe to repeat. Shards are cut where the samples' own keys say so, so that a changed, added or removed sample changes
the shard it lies in and no other; a shard that comes out the same is not touched. Everything is written beside the
landing folder first and moved in at the end: an import that fails leaves what was there before.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from assets.corpus.folder_source import read_folder
from assets.corpus.image_io import MAX_PIXELS
from assets.corpus.landing import list_shards, read_samples
from assets.corpus.published import ANNOTATIONS_FILE, AnnotationWriter, read_published
from assets.corpus.raw_samples import RawSample, admit
from assets.corpus.shard_files import QUARANTINE_FILE, SHARD_SCHEMA, parquet_bytes, write_if_changed
from assets.corpus.source_layout import recognise
from assets.graph.schemas import QUARANTINE
from training.digests import sha256_bytes
from training.errors import FoundryError

MAX_SHARD_SAMPLES = 500
MAX_SHARD_BYTES = 64 * 2**20
IMPORT_FILE = "_import.json"
"""What an import wrote: the only files that a repeated import may remove."""

# A shard ends after a key whose hash is a multiple of 256, once it holds 32 samples: about 290 samples on average.
_CUT_EVERY, _MIN_SHARD_SAMPLES = 256, 32

Progress = Callable[[int, int | None], None]
"""Called with the samples read so far and, where it is known, their total."""


@dataclass(frozen=True)
class ImportReport:
    """What an import found and what it changed. ``quarantined`` counts samples by reason."""

    name: str
    folder: Path
    layout: str
    num_samples: int
    quarantined: dict[str, int]
    shards_written: tuple[str, ...]
    shards_unchanged: tuple[str, ...]
    shards_removed: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether any shard was written or removed."""
        return bool(self.shards_written or self.shards_removed)


def import_source(
    source: Path,
    name: str,
    landing_root: Path,
    progress: Progress = lambda done, total: None,
    max_pixels: int = MAX_PIXELS,
) -> ImportReport:
    """Land ``source`` as the collection ``name`` below ``landing_root``.

    ``source`` is a folder of images with ``.txt`` sidecars or a captions file, a folder of WebDataset tars or of
    Parquet files with image bytes, or one such tar or Parquet file; or LayoutSAM's or LayoutSAM-Eval's own files, whose
    captions become alt-texts and whose entities are kept beside the shards. Images keep their bytes and their size.
    Raises FoundryError for a bad name, a missing, empty, mixed or unknown source, a source that overlaps the landing
    root, a name whose folder no import made, nothing usable, or a disk that refuses.
    """
    target = landing_root / name
    layout, files = recognise(source, name, landing_root)
    before = _previous(target)
    with _staging_folder(landing_root, name) as staging:
        writer = _ShardWriter(name, Path(staging), AnnotationWriter(Path(staging) / ANNOTATIONS_FILE))
        with writer.annotations:
            _stream(source, layout, files, writer, progress, max_pixels)
        if not writer.num_samples:
            raise FoundryError(_nothing_usable(source, writer))
        return _publish(writer, target, layout, before)


def _staging_folder(landing_root: Path, name: str) -> tempfile.TemporaryDirectory[str]:
    """A hidden folder on the landing folder's own disk, so that moving in is a rename."""
    try:
        landing_root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".{name}.", dir=landing_root)
    except OSError as error:
        raise FoundryError(
            f"{landing_root}: cannot be written ({error.strerror}). Free some space or allow writing there."
        ) from error


@dataclass
class _ShardWriter:
    """Gathers admitted samples and cuts them into shard files in a staging folder. Holds one shard in memory."""

    name: str
    staging: Path
    annotations: AnnotationWriter
    shards: list[str] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    num_samples: int = 0
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _num_bytes: int = 0
    _first_id: str = ""

    def add(self, row: dict[str, Any], declared_split: str | None) -> None:
        """Add a row of LANDED_IMAGES; the shard keeps the split that the source declared, if any."""
        size = len(row["image"])
        if self._rows and self._num_bytes + size > MAX_SHARD_BYTES:
            self.cut()
        if not self._rows:
            self._first_id = row["sample_id"]
        self._rows.append(
            {
                "image": {"bytes": row["image"], "path": Path(row["key"]).name},
                "text": row["alt_text"],
                "key": row["key"],
                "split": declared_split,
                "license": row["license"],
                "attribution": row["attribution"],
            }
        )
        self._num_bytes += size
        self.num_samples += 1
        ends = int(sha256_bytes(row["key"].encode())[:8], 16) % _CUT_EVERY == 0
        if len(self._rows) >= MAX_SHARD_SAMPLES or (ends and len(self._rows) >= _MIN_SHARD_SAMPLES):
            self.cut()

    def cut(self) -> None:
        """Write the gathered rows as a shard, named by its first sample."""
        if not self._rows:
            return
        shard = f"{self.name}-{self._first_id[:16]}.parquet"
        table = pa.Table.from_pylist(self._rows, schema=SHARD_SCHEMA)
        write_if_changed(self.staging / shard, parquet_bytes(table))
        self.shards.append(shard)
        self._rows, self._num_bytes = [], 0


def _stream(
    source: Path,
    layout: str,
    files: list[Path],
    writer: _ShardWriter,
    progress: Progress,
    max_pixels: int,
) -> None:
    """Read every sample once, admit or set aside."""
    total = len(files) if layout == "folder" else _num_rows(files)
    seen: set[str] = set()
    last_file = ""
    for done, (file, sample) in enumerate(_samples(source, layout, files), start=1):
        if layout != "folder" and file != last_file:
            writer.cut()  # each file has shards of its own, so a change in one leaves the others' alone
            last_file = file
        row, rejected = admit(sample, writer.name, file, max_pixels)
        if row is not None and row["sample_id"] in seen:
            rejected = {name: row[name] for name in ("source", "shard", "key")}
            rejected |= {"position": sample.position, "reason": "duplicate_key"}
            rejected |= {"detail": "the same image with the same key came before"}
            row = None
        if row is not None:
            seen.add(row["sample_id"])
            writer.add(row, sample.split)
            writer.annotations.add(row["sample_id"], sample.entities)
        if rejected is not None:
            writer.quarantined.append(rejected)
        progress(done, total if total is None else max(total, done))
    writer.cut()


def _samples(source: Path, layout: str, files: list[Path]) -> Iterator[tuple[str, RawSample]]:
    """(file relative to the source, sample) in a fixed order."""
    if layout == "folder":
        yield from read_folder(source, files)
        return
    if layout in ("layoutsam", "layoutsam-eval"):
        yield from read_published(source, layout, files)
        return
    for path in files:
        relative = path.name if path == source else path.relative_to(source).as_posix()
        for sample in read_samples(path, layout, relative):
            yield relative, sample


def _num_rows(files: list[Path]) -> int | None:
    """Rows of Parquet files from their footers; None for others, which would have to be read, or a damaged file."""
    import pyarrow.parquet as pq

    if any(path.suffix.lower() != ".parquet" for path in files):
        return None
    try:
        return sum(pq.read_metadata(path).num_rows for path in files)
    except (pa.ArrowException, OSError):
        return None


def _previous(target: Path) -> list[str]:
    """Shards that the last import of this name wrote. Raises FoundryError when no import made the folder."""
    record = target / IMPORT_FILE
    if not record.is_file():
        if target.is_dir() and list_shards(target):
            raise FoundryError(
                f"{target}: already holds shards that no import wrote. Choose another name, or empty that folder."
            )
        return []
    try:
        shards = json.loads(record.read_text(encoding="utf-8"))["shards"]
    except (ValueError, KeyError, TypeError) as error:
        raise FoundryError(f"{record}: is damaged. Remove {target} and import again.") from error
    return [shard for shard in shards if isinstance(shard, str) and Path(shard).name == shard]


def _publish(writer: _ShardWriter, target: Path, layout: str, before: list[str]) -> ImportReport:
    """Move the staged shards in, remove those of the last import that vanished, write the record last."""
    written: list[str] = []
    unchanged: list[str] = []
    quarantine = pa.Table.from_pylist(writer.quarantined, schema=QUARANTINE)
    # Named before anything moves: whatever happens between, a later import knows these as an import's.
    _record(target, layout, sorted({*before, *writer.shards}))
    for shard in writer.shards:
        moved = _move_if_changed(writer.staging / shard, target / shard)
        (written if moved else unchanged).append(shard)
    if writer.quarantined:
        write_if_changed(target / QUARANTINE_FILE, parquet_bytes(quarantine))
    else:
        (target / QUARANTINE_FILE).unlink(missing_ok=True)
    if writer.annotations.num_rows:
        _move_if_changed(writer.staging / ANNOTATIONS_FILE, target / ANNOTATIONS_FILE)
    else:
        (target / ANNOTATIONS_FILE).unlink(missing_ok=True)
    removed = [shard for shard in before if shard not in writer.shards and (target / shard).exists()]
    for shard in removed:
        (target / shard).unlink()
    _record(target, layout, sorted(writer.shards))
    reasons = dict(sorted(Counter(row["reason"] for row in writer.quarantined).items()))
    return ImportReport(
        writer.name, target, layout, writer.num_samples, reasons, tuple(written), tuple(unchanged), tuple(removed)
    )  # fmt: skip


def _record(target: Path, layout: str, shards: list[str]) -> None:
    content = json.dumps({"layout": layout, "shards": shards}, indent=1)
    write_if_changed(target / IMPORT_FILE, content.encode())


def _move_if_changed(staged: Path, final: Path) -> bool:
    """Put a staged shard in place unless the same bytes lie there. Staging is on the same disk: a rename."""
    same_size = final.is_file() and final.stat().st_size == staged.stat().st_size
    if same_size and final.read_bytes() == staged.read_bytes():
        return False
    try:
        staged.replace(final)
    except OSError as error:
        raise FoundryError(
            f"{final}: cannot be written ({error.strerror}). Allow writing there, then import again."
        ) from error
    return True


def _nothing_usable(source: Path, writer: _ShardWriter) -> str:
    reasons = Counter(row["reason"] for row in writer.quarantined)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    first = writer.quarantined[0] if writer.quarantined else None
    example = f"; the first: {first['shard']} at {first['position']}: {first['detail']}" if first else ""
    return (
        f"{source}: none of its samples can be used ({counts or 'no samples'}{example}). Correct the source."
    )
