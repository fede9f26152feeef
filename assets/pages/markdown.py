"""Markdown of untrusted parts: text, and tables of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assets.pages.tables import Column, Entry, Span, Table, spans_of
from evaluation.plots.contact_sheets import safe_text

NOTHING = "Nothing here yet."
_PLAIN = re.compile(r"[\w.-]+", re.ASCII)


def escape(text: str, max_characters: int = 300) -> str:
    """Untrusted text as one line of Markdown that shows what it says and does nothing."""
    line = safe_text(str(text), max_characters)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_{}\[\]()#+!|~@$-])", r"\\\1", line)
    # Addresses are shown, not linked: a colon behind a scheme is written as an entity.
    line = re.sub(r"\b(https?|ftp|javascript|data|mailto):", r"\1&#58;", line, flags=re.IGNORECASE)
    return re.sub(r"\bwww\.", "www&#46;", line, flags=re.IGNORECASE)


def markdown_table(table: Table) -> str:
    """The table in Markdown, its title above it; a sentence where it has no rows."""
    title = [f"**{escape(table.title)}**", ""] if table.title else []
    if not table.rows:
        return "\n".join([*title, NOTHING])
    head = _line([_title(column) for column in table.columns])
    rule = "|" + "|".join("---:" if column.stands_right else "---" for column in table.columns) + "|"
    return "\n".join([*title, head, rule, *(_row(table, row) for row in table.rows)])


def _row(table: Table, row: Sequence[Entry]) -> str:
    return _line([_cell(column, entry) for column, entry in zip(table.columns, row, strict=True)])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _title(column: Column) -> str:
    return escape(column.title) + (f" ({escape(column.note)})" if column.note else "")


def _cell(column: Column, entry: Entry) -> str:
    spans = spans_of(column, entry)
    return " ".join(_span(span, first=place == 0) for place, span in enumerate(spans))


def _span(span: Span, *, first: bool) -> str:
    text = span.text if span.role in ("figure", "range") else escape(span.text, len(span.text))
    if span.role == "code" and _PLAIN.fullmatch(span.text):
        text = f"`{span.text}`"
    return text if first else f"({text})"
