"""Tables read back from what was written, by parsers that know nothing of how it was written."""

from __future__ import annotations

from html.parser import HTMLParser

from markdown_it import MarkdownIt


class _Cells(HTMLParser):
    """Rows of cells' text. Any element that a table of plain text does not need is an error."""

    allowed = frozenset(
        {"table", "thead", "tbody", "tr", "th", "td", "code", "strong", "p", "span", "br", "div"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.allowed, tag
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def cells_of_html(page: str) -> list[list[str]]:
    """Text of all cells of all tables, row by row."""
    parser = _Cells()
    parser.feed(page)
    parser.close()
    return [[" ".join(cell.split()) for cell in row] for row in parser.rows]


def cells_of_markdown(text: str) -> list[list[str]]:
    """The same of Markdown, as CommonMark with tables reads it."""
    return cells_of_html(MarkdownIt("commonmark").enable("table").render(text))
