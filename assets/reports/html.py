"""One static HTML report: self-contained, no scripts, no address outside the file but relative links."""

from __future__ import annotations

import base64
import math
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.reports.data import ReportData
from assets.reports.ledger import ledger_total
from evaluation.intervals import Interval
from evaluation.plots.contact_sheets import safe_text
from training.errors import FoundryError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

REPORT_FILE = "report.html"
MAX_CHARACTERS = 2000
TEMPLATES = Path(__file__).parent / "templates"
STANDING_CREDITS = (
    "Scene art: Twemoji graphics, copyright 2019 Twitter, Inc and other contributors, licensed under CC-BY 4.0 "
    "(creativecommons.org/licenses/by/4.0); composed, scaled and re-encoded here.",
    "EfficientNet-Lite0 weights (Apache-2.0), all-MiniLM-L6-v2 weights (Apache-2.0), PP-OCR models (Apache-2.0).",
)
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))


def write_report(folder: Path, data: ReportData) -> Path:
    """Write ``report.html`` into ``folder`` (made when missing) and return its path.

    The file is replaced in one step: a reader sees the old report or the new one.
    Raises FoundryError for a picture that is neither PNG nor JPEG and when the folder cannot be written.
    """
    page = render_report(data)
    target = folder / REPORT_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".report-", suffix=".html")
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _cannot_write(target, error) from error
    return target


def render_report(data: ReportData) -> str:
    """The report as one HTML page."""
    recipes = list(dict.fromkeys(recipe for row in data.samples for recipe in row.by_recipe))
    order = {row.recipe: place for place, row in enumerate(data.models)}
    recipes.sort(key=lambda recipe: order.get(recipe, len(order)))
    credits = list(dict.fromkeys([*STANDING_CREDITS, *data.credits]))
    page = _environment().get_template("report.html")
    return page.render(data=data, recipes=recipes, total=ledger_total(list(data.ledger)), credits=credits)


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
    environment.filters.update(
        fixed=_fixed,
        finite=math.isfinite,
        grouped=lambda count: f"{count:,}",
        count_of=_count_of,
        line=lambda text: safe_text(text, 240),
        data_uri=_data_uri,
        safe_link=_safe_link,
    )
    return environment


def _printable(value: object) -> object:
    """Plain text without control and direction marks, which could hide or reorder what is beside it."""
    return safe_text(value, MAX_CHARACTERS) if type(value) is str else value


def _fixed(value: float, digits: int) -> str:
    return "not finite" if not math.isfinite(value) else f"{value:,.{digits}f}"


def _count_of(value: Any) -> str:
    return f"{value.count:,}" if isinstance(value, Interval) and value.count is not None else ""


def _data_uri(image: bytes) -> Markup:
    from markupsafe import Markup

    for magic, kind in _MAGIC:
        if image.startswith(magic):
            return Markup(f"data:{kind};base64,{base64.b64encode(image).decode()}")
    raise FoundryError(
        f"report: a picture of {len(image)} bytes starts with {image[:4]!r}; PNG or JPEG is allowed; "
        "encode it before it goes into the report"
    )


def _safe_link(link: str) -> bool:
    """Only paths relative to the report: no scheme, no host, no way to script."""
    return bool(link) and ":" not in link and "\\" not in link and not link.startswith("/")


def _cannot_write(target: Path, error: OSError) -> FoundryError:
    return FoundryError(
        f"report {target}: found '{error.strerror}' while writing; the folder must be writable and the disk "
        "have room; free some space or choose another storage root (the old report, if any, is still there)"
    )
