"""Pictures that somebody else drew for a benchmark: files in a folder, found by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from evaluation.benchmarks.samples import LayoutSample
from training.errors import FoundryError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
NAMED = 5
"""How many samples an error names."""


class FolderPictures(Mapping[str, bytes]):
    """Encoded pictures by image_id, each read from its file when it is asked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def __getitem__(self, image_id: str) -> bytes:
        return self._files[image_id].read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._files

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self._files[image_id]


def pictures_of(folder: Path, samples: Sequence[LayoutSample], *, last_part: bool = False) -> FolderPictures:
    """The picture of every sample: the file of the folder (or below it) whose name without its suffix is the
    sample's ``image_id``, or its file name's. Every picture is opened once, so that no judging ends in the middle.

    ``last_part``: what stands before a name's last "_" does not count, as in COCO-MIG.

    Raises FoundryError for a folder that is not there, two files of one name, a file of two samples, samples without a picture and pictures that
    cannot be decoded, counted, with the first of them.
    """
    if not folder.is_dir():
        raise FoundryError(f"images {folder}: no such folder. Name the folder of the generated pictures.")
    by_stem = _by_stem(folder, last_part=last_part)
    files = {sample.image_id: _file_of(sample, by_stem) for sample in samples}
    missing = [sample for sample in samples if files[sample.image_id] is None]
    if missing:
        names = ", ".join(sample.file_name or sample.image_id for sample in missing[:NAMED])
        raise FoundryError(
            f"images {folder}: {len(missing)} of {len(samples)} samples have no picture, such as {names}; a picture is "
            f"named as its sample's image_id or file_name, with {', '.join(SUFFIXES)}. Draw them, or take a benchmark "
            "without them: a score over a part does not compare."
        )
    found = {image_id: path for image_id, path in files.items() if path is not None}
    _require_own(found)
    _require_readable(found)
    return FolderPictures(found)


def _by_stem(folder: Path, *, last_part: bool) -> dict[str, list[Path]]:
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = path.stem.rpartition("_")[2] if last_part else path.stem
            by_stem.setdefault(name, []).append(path)
    return by_stem


def _file_of(sample: LayoutSample, by_stem: Mapping[str, Sequence[Path]]) -> Path | None:
    """Raises FoundryError where two files may be the sample's."""
    for name in (sample.image_id, sample.file_name):
        found = by_stem.get(_stem(name), ())
        if len(found) > 1:
            raise FoundryError(
                f"sample {sample.image_id}: {len(found)} pictures have its name ({', '.join(map(str, found[:2]))}); "
                "there must be one. Remove or move the others."
            )
        if found:
            return found[0]
    return None


def _stem(name: str) -> str:
    """A file's name without folders and without an ending that pictures have; an id may hold dots of its own."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _require_own(files: Mapping[str, Path]) -> None:
    owner: dict[Path, str] = {}
    for image_id, path in files.items():
        other = owner.setdefault(path, image_id)
        if other != image_id:
            raise FoundryError(
                f"{path}: is the picture of the samples {other} and {image_id}; each needs its own. Name them by image_id."
            )


def _require_readable(files: Mapping[str, Path]) -> None:
    from PIL import Image

    broken = []
    for path in files.values():
        try:
            with Image.open(path) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            broken.append(f"{path.name} ({error})")
    if broken:
        raise FoundryError(
            f"{len(broken)} of {len(files)} pictures cannot be decoded, such as {'; '.join(broken[:NAMED])}. Draw them "
            "again."
        )
