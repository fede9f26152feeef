"""Static HTML of a page: self-contained, no scripts, no address outside the file but relative links."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from assets.pages.sections import Page
from assets.pages.tables import MAX_CHARACTERS, Bar, Cell, Column, Entry, Picture, Span, Table, spans_of
from evaluation.plots.contact_sheets import safe_text
from training.errors import FoundryError, write_error
from training.run_folder import write_bytes_atomic

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "page.html"
PIXELS_OF_A_BAR, LONGEST_BAR = 160, 2.0
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))


@dataclass(frozen=True)
class ShownCell:
    """A cell as the template writes it: text in spans, or a picture, or a bar of so many pixels."""

    spans: Sequence[Span]
    right: bool
    tone: str = ""
    link: str = ""
    picture: bytes | None = None
    about: str = ""
    bar_px: int | None = None


def write_page(path: Path, page: Page) -> Path:
    """Write the page to ``path`` (its folder is made when missing) and return the path.

    The file is replaced in one step: a reader sees the old page or the new one.
    Raises FoundryError for a picture that is neither PNG nor JPEG and when the folder cannot be written.
    """
    text = render_page(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    write_bytes_atomic(path, text.encode("utf-8"))
    return path


def render_page(page: Page) -> str:
    """The page as HTML."""
    return _environment().get_template(TEMPLATE).render(page=page)


def shown_rows(table: Table) -> list[list[ShownCell]]:
    """All cells of a table as they are shown, row by row."""
    return [
        [_shown(column, entry) for column, entry in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]


def has_pictures(table: Table) -> bool:
    """Whether a table shows pictures, which asks for narrow cells."""
    return any(isinstance(entry, Picture) for row in table.rows for entry in row)


def _shown(column: Column, entry: Entry) -> ShownCell:
    spans, right = spans_of(column, entry), column.stands_right
    if isinstance(entry, Picture):
        return ShownCell((), right, picture=entry.image, about=entry.about)
    if isinstance(entry, Bar):
        return ShownCell((), right, bar_px=round(PIXELS_OF_A_BAR * min(entry.share, LONGEST_BAR)))
    if isinstance(entry, Cell):
        return ShownCell(
            spans, right, entry.tone.partition(" ")[0], entry.link if _is_safe(entry.link) else ""
        )
    return ShownCell(spans, right)


@cache
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data_uri=_data_uri, shown_rows=shown_rows, has_pictures=has_pictures)
    return environment


def _printable(value: object) -> object:
    """Plain text without control and direction marks, which could hide or reorder what is beside it."""
    return safe_text(value, MAX_CHARACTERS) if type(value) is str else value


def _data_uri(image: bytes) -> Markup:
    from markupsafe import Markup

    for magic, kind in _MAGIC:
        if image.startswith(magic):
            return Markup(f"data:{kind};base64,{base64.b64encode(image).decode()}")
    raise FoundryError(
        f"page: a picture of {len(image)} bytes starts with {image[:4]!r}; PNG or JPEG is allowed; "
        "encode it before it goes into the page"
    )


def _is_safe(link: str) -> bool:
    """Only paths relative to the page: no scheme, no host, no way to script."""
    return bool(link) and ":" not in link and "\\" not in link and not link.startswith("/")
