"""What a person pointed at: which of the known layouts a source has, or one sentence on why none."""

from __future__ import annotations

import re
from pathlib import Path

from assets.corpus.folder_source import CAPTION_FILES, list_images
from assets.corpus.landing import list_shards, shard_format
from assets.entities.formats.layoutsam import annotation_files, layoutsam_kind
from training.errors import FoundryError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ALLOWED = (
    f"allowed are images with .txt sidecars or with {' or '.join(CAPTION_FILES[:2])} (columns file_name, text), "
    "WebDataset .tar files, .parquet files with image bytes and text, or LayoutSAM's own files"
)


def recognise(source: Path, name: str, landing_root: Path) -> tuple[str, list[Path]]:
    """Layout and files of a source, everything checked that can be.

    Layouts are ``folder``, ``tar``, ``parquet``, and of published annotations ``layoutsam`` (the images below the same
    folder) and ``layoutsam-eval``.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise FoundryError(
            f"name is {name!r}; allowed are 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit."
        )
    if not source.exists():
        raise FoundryError(f"{source}: does not exist. Give the folder, tar or Parquet file to import.")
    if _overlap(source.resolve(), landing_root.resolve()):
        raise FoundryError(
            f"{source}: overlaps the landing folders in {landing_root}; an import would read what it writes. "
            "Move the source elsewhere."
        )
    published = layoutsam_kind(source)
    if published is not None:
        return published, annotation_files(source)
    if source.is_file():
        kind = shard_format(source)
        if kind not in ("tar", "parquet"):
            raise FoundryError(f"{source}: is neither a .tar nor a .parquet file; {_ALLOWED}.")
        return kind, [source]
    found = {
        "folder": list_images(source),
        "tar": _files(source, "tar"),
        "parquet": _files(source, "parquet"),
    }
    present = {layout: files for layout, files in found.items() if files}
    if len(present) > 1:
        counts = ", ".join(f"{len(files)} of layout '{layout}'" for layout, files in present.items())
        raise FoundryError(f"{source}: mixes layouts ({counts}); put each into a folder of its own.")
    if not present:
        what = "is empty" if not any(source.iterdir()) else "holds no image, tar or Parquet file"
        raise FoundryError(f"{source}: {what}; {_ALLOWED}.")
    return next(iter(present.items()))


def _files(source: Path, kind: str) -> list[Path]:
    return [shard.path for shard in list_shards(source) if shard.format == kind]


def _overlap(source: Path, landing_root: Path) -> bool:
    """Whether the landing root lies in the source or the source in the landing root."""
    return source.is_relative_to(landing_root) or landing_root.is_relative_to(source)
