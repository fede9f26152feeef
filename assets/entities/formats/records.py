"""One annotated image in memory, as all formats read and write it, and what the formats have in common."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evaluation.box_conventions import Box, check_box
from training.digests import sha256_bytes
from training.errors import FoundryError

ALT_TEXT = "alt-text"
"""``model`` of a caption that came with the image."""
_SUFFIXES = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"))


@dataclass(frozen=True)
class AnnotatedCaption:
    """A caption of the whole image; ``model`` says who wrote it, ``score`` is its confidence in [0, 1] or None."""

    text: str
    model: str = ALT_TEXT
    score: float | None = None


@dataclass(frozen=True)
class AnnotatedEntity:
    """A thing in an image: phrase, description, normalised box, scores in [0, 1], perhaps a mask.

    ``mask_rle`` is COCO's compressed run lengths at ``mask_size`` (height, width), empty where there is no mask.
    """

    phrase: str
    description: str
    box_xyxy_norm: Box
    score: float | None = None
    detector_score: float | None = None
    mask_rle: str = ""
    mask_size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with captions (best first) and entities. ``image`` is None where only annotations were read."""

    sample_id: str
    image: bytes | None
    width: int
    height: int
    file_name: str
    captions: tuple[AnnotatedCaption, ...] = ()
    entities: tuple[AnnotatedEntity, ...] = ()
    license: str = "unknown"
    attribution: str = ""
    source: str = ""
    split: str = ""

    @property
    def global_caption(self) -> str:
        """The first caption, empty where there is none."""
        return self.captions[0].text if self.captions else ""


def image_suffix(image: bytes) -> str:
    """File suffix by the image's first bytes; ``.jpg`` where they are of no known kind."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return ".webp"
    if image[:4] in (b"II*\x00", b"MM\x00*"):
        return ".tif"
    return next((suffix for magic, suffix in _SUFFIXES if image.startswith(magic)), ".jpg")


def image_path_of(record: AnnotatedImage) -> str:
    """Where a record's image goes: by its sample, never by its caption, in folders that stay small."""
    suffix = image_suffix(record.image or b"")
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in record.sample_id)[:120]
    if stem != record.sample_id:  # two ids may look alike once strange characters are gone
        stem = f"{stem or 'sample'}-{sha256_bytes(record.sample_id.encode('utf-8', 'replace'))[:8]}"
    return f"{stem[:2]}/{stem}{suffix}"


def as_json(record: AnnotatedImage) -> dict[str, Any]:
    """Everything but the image's bytes, as plain values."""
    return {
        "sample_id": record.sample_id,
        "width": record.width,
        "height": record.height,
        "file_name": record.file_name,
        "source": record.source,
        "split": record.split,
        "license": record.license,
        "attribution": record.attribution,
        "captions": [vars(caption) for caption in record.captions],
        "entities": [
            {**vars(entity), "box_xyxy_norm": list(entity.box_xyxy_norm), "mask_size": list(entity.mask_size)}
            for entity in record.entities
        ],
    }


def from_json(values: Mapping[str, Any], image: bytes | None, where: str) -> AnnotatedImage:
    """Inverse of :func:`as_json`. Raises FoundryError that names ``where`` for what is missing or of another form."""
    try:
        sample_id = str(values["sample_id"])
        return AnnotatedImage(
            sample_id=sample_id,
            image=image,
            width=int(values["width"]),
            height=int(values["height"]),
            file_name=str(values["file_name"]),
            captions=tuple(AnnotatedCaption(**caption) for caption in values["captions"]),
            entities=tuple(_entity(entity, sample_id, n) for n, entity in enumerate(values["entities"])),
            license=str(values["license"]),
            attribution=str(values["attribution"]),
            source=str(values["source"]),
            split=str(values["split"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FoundryError(
            f"{where}: is not an annotated image as this platform writes it ({error}). Export it again."
        ) from error


def _entity(values: Mapping[str, Any], sample_id: str, number: int) -> AnnotatedEntity:
    height, width = values["mask_size"]
    return AnnotatedEntity(
        **{
            **values,
            "box_xyxy_norm": check_box(values["box_xyxy_norm"], sample_id, number),
            "mask_size": (int(height), int(width)),
        }
    )


def read_json(path: Path) -> Any:
    """Content of a JSON file. Raises FoundryError that names the file."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise FoundryError(f"{path}: cannot be read ({error.strerror}). Check that it is there.") from error
    except ValueError as error:
        raise FoundryError(f"{path}: is not JSON ({error}). Download or export it again.") from error


EXPORT_FILE = "export.json"
"""What tells an export from any other folder."""


@contextmanager
def whole_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A hidden folder beside ``folder`` to write into; it becomes ``folder`` when the block ends well.

    Raises FoundryError for a folder that is not empty (unless ``overwrite``), for one that is no earlier export (its
    :data:`EXPORT_FILE` is missing: nobody's own files are replaced), or one that cannot be written; on any error what
    was there before is still there.
    """
    if folder.exists() and not folder.is_dir():
        raise FoundryError(f"{folder}: is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FoundryError(f"{folder}: is not empty. Give another folder, or say --overwrite to replace it.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / EXPORT_FILE).is_file():
        raise FoundryError(
            f"{folder}: holds files, but no {EXPORT_FILE} of an earlier export, so it is not replaced. Give another folder."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise FoundryError(
            f"{folder}: cannot be written ({error.strerror}). Free some space or allow it."
        ) from error
    try:
        yield staging
        staging.chmod(0o755)
        _swap(staging, folder)
    except OSError as error:
        raise FoundryError(
            f"{folder}: cannot be written ({error.strerror}). Free some space or allow it."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap(staging: Path, folder: Path) -> None:
    """Put the new folder in the old one's place; the old one goes once the new one stands."""
    if not folder.exists():
        staging.replace(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.replace(old)
    try:
        staging.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old)


def safe_path(name: str) -> PurePosixPath | None:
    """A relative path that stays below its folder, or None for one that does not."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name or "\x00" in name:
        return None
    return path
