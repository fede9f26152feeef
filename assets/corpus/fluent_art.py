"""Pictures of the same things by another hand: Microsoft's Fluent emoji, for a concept bank that scenes do not share.

Fluent Emoji, copyright Microsoft Corporation, packaged by LobeHub. The archive comes by `make demo-data` (:mod:`evaluation.perception.downloads`); its drawings are named by code points and
found here by the CLDR name that the scenes' drawings have. They are three-dimensional renderings under the MIT licence.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from assets.corpus.art import NamedPicture
from training.errors import FoundryError

_MEMBER = "package/assets/{}.webp"


def fluent_pictures(
    concepts: Iterable[NamedPicture], size_px: int = 128, archive: Path | None = None
) -> dict[str, bytes]:
    """Concept name -> RGBA PNG of its Fluent drawing; concepts that have none are left out.

    Args:
        concepts: name and CLDR name of each drawing.
        size_px: side of the pictures.
        archive: the fetched archive; looked up and checked in the cache folder when left out.

    Raises:
        FoundryError: the archive was not fetched, or is not what it should be.
    """
    from PIL import Image

    wanted = {concept.name: fluent_stem(concept.picture) for concept in concepts}
    data = _read_members(archive or _fetched(), {stem for stem in wanted.values() if stem})
    answer = {}
    for name, stem in wanted.items():
        if stem not in data:
            continue
        with Image.open(io.BytesIO(data[stem])) as opened:
            picture = opened.convert("RGBA").resize((size_px, size_px), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        answer[name] = buffer.getvalue()
    return answer


def fluent_stem(picture: str) -> str:
    """File stem of the drawing with a CLDR name: its fully qualified code points in hex; empty for an unknown name."""
    return "-".join(f"{ord(point):04x}" for point in _characters().get(picture, ""))


@cache
def _characters() -> Mapping[str, str]:
    """CLDR short name in lower case with spaces -> the emoji."""
    import emoji

    qualified = emoji.STATUS["fully_qualified"]
    return MappingProxyType(
        {
            data["en"].strip(":").replace("_", " ").lower(): character
            for character, data in emoji.EMOJI_DATA.items()
            if data["status"] == qualified
        }
    )


def _fetched() -> Path:
    from evaluation.perception.downloads import FLUENT, payload_files

    return payload_files(FLUENT)["fluent-emoji-3d.tgz"]


def _read_members(archive: Path, stems: set[str]) -> dict[str, bytes]:
    """Bytes of the drawings that there are, by stem; one pass over the archive."""
    by_member = {_MEMBER.format(stem): stem for stem in stems}
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                stream = opened.extractfile(member) if member.name in by_member else None
                if stream is not None:
                    found[by_member[member.name]] = stream.read()
    except (OSError, tarfile.TarError) as error:
        raise FoundryError(
            f"{archive}: cannot be read ({error}); remove it and run: make demo-data"
        ) from error
    return found
