"""A table as people read it: a record of columns and rows, from which Markdown and HTML are written.

Text may come from captions or recipes of strangers: nothing in a table is markup, and both writers escape all of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.intervals import Interval
from evaluation.plots.contact_sheets import safe_text

MAX_CHARACTERS = 2000
Role = Literal["text", "figure", "code", "unknown", "range", "note", "below"]
Value = str | int | float | Interval | None


@dataclass(frozen=True)
class Column:
    """``form``: the format specification of its figures (``,.3f``); ``missing``: what it says where there is no value.

    ``title`` is followed by a soft ``note``. A column with a form, or with ``right``, stands right.
    """

    title: str
    form: str = ""
    missing: str = ""
    note: str = ""
    right: bool = False

    @property
    def stands_right(self) -> bool:
        """Whether its cells end in one line, as figures do."""
        return self.right or bool(self.form)


@dataclass(frozen=True)
class Cell:
    """A value with what belongs to it: a soft ``note`` behind, ``below`` on a line of its own, and how it looks.

    ``tone``: a status that gives the cell its colour (yes, no, holds, fails, inside, unknown, over). ``link`` is relative
    to the page; any other address stays text. ``form`` stands in for the column's.
    """

    value: Value = None
    note: str = ""
    below: str = ""
    tone: str = ""
    link: str = ""
    code: bool = False
    form: str = ""


@dataclass(frozen=True)
class Picture:
    """PNG or JPEG bytes, and what they show; Markdown has the words only."""

    image: bytes
    about: str


@dataclass(frozen=True)
class Bar:
    """A bar as long as its share of the whole, 1 is 160 pixels; nothing in Markdown."""

    share: float


Entry = Value | Cell | Picture | Bar


@dataclass(frozen=True)
class Table:
    """Rows of as many entries as there are columns. ``totals``: the last row sums up the others."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    title: str = ""
    totals: bool = False

    @property
    def has_head(self) -> bool:
        """Whether any column has a title."""
        return any(column.title for column in self.columns)


@dataclass(frozen=True)
class Span:
    """One printable line of a cell, and the part it plays. Figures are made of signs that mean nothing to any markup."""

    text: str
    role: Role


def table_of_records(records: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """Records of equal keys as a table with a column each; those that hold numbers stand right."""
    names = list(records[0]) if records else []
    columns = [Column(name, right=_has_numbers([row[name] for row in records])) for name in names]
    return Table(columns, [[row[name] for name in names] for row in records], title)


def spans_of(column: Column, entry: Entry) -> list[Span]:
    """What a cell says, piece by piece: the same for Markdown and HTML. Empty for a bar and for nothing."""
    if isinstance(entry, Bar):
        return []
    if isinstance(entry, Picture):
        return _said([Span(entry.about, "note")])
    cell = entry if isinstance(entry, Cell) else Cell(entry)
    return _said([*_value_spans(column, cell), Span(cell.note, "note"), Span(cell.below, "below")])


def _value_spans(column: Column, cell: Cell) -> list[Span]:
    value, form = cell.value, cell.form or column.form
    if value is None:
        return [Span(column.missing, "unknown")]
    if isinstance(value, str):
        return [Span(value, "code" if cell.code else "text")]
    if not isinstance(value, Interval):
        return [_figure(value, form)]
    spans = [_figure(value.value, form)]
    if math.isfinite(value.low) and math.isfinite(value.high):
        ends = (_figure(end, form).text for end in (value.low, value.high))
        spans.append(Span(" to ".join(ends), "range"))
    return spans


def _figure(value: float, form: str) -> Span:
    if isinstance(value, bool):
        return Span("yes" if value else "no", "text")
    if not math.isfinite(value):
        return Span("not finite", "unknown")
    return Span(format(value, form or ("," if isinstance(value, int) else ",.4g")), "figure")


def _said(spans: Sequence[Span]) -> list[Span]:
    printable = (Span(safe_text(span.text, MAX_CHARACTERS), span.role) for span in spans)
    return [span for span in printable if span.text]


def _has_numbers(values: Sequence[Any]) -> bool:
    return any(isinstance(value, int | float | Interval) and not isinstance(value, bool) for value in values)
