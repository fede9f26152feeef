"""A page is one self-contained file, escapes what strangers wrote, and replaces itself in one step."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assets.pages.html import render_page, write_page
from assets.pages.markdown import markdown_table
from assets.pages.sections import Figure, Page, Section
from assets.pages.tables import Bar, Cell, Column, Entry, Picture, Table
from evaluation.intervals import Interval
from evaluation.plots.contact_sheets import safe_text
from tests.assets.pages.reading import cells_of_html, cells_of_markdown
from tests.assets.pages.test_tables import wild
from training.errors import FoundryError

VOID = {"meta", "img", "br", "link"}
HOSTILE = (
    '"><script>alert(1)</script>',
    "{{ 7*7 }} {% raw %}",
    "' onload='x",
    "</main><!--",
    "a\u202e\x00\n漢字",
    "",
)


class _Read(HTMLParser):
    """Collects tags, text and addresses, and notices tags that are closed in the wrong order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _page(text: str = "red apple") -> Page:
    """A page in which every free text is ``text``."""
    columns = [Column(text), Column("Value", ",.4f", "unknown", note=text), Column(""), Column("")]
    interval = Interval(0.51234, 0.49, 0.53)
    rows: list[list[Entry]] = [
        [Cell(text, note=text, below=text, link=text), interval, Picture(_png(), text), Bar(0.5)],
        [Cell(text, code=True), None, Cell("holds", tone="holds"), Bar(9.0)],
        ["total", Cell(31.5, tone="over"), "", ""],
    ]
    full = Section(
        text, "full", [text], [Table(columns, rows, text, totals=True)], [Figure(text, _png(), text)]
    )
    empty = Section("Empty", "empty", tables=[Table(columns, [])], missing=text)
    return Page(text, [full, empty], (text, text), {text: text})


def test_everything_is_shown() -> None:
    page = render_page(_page())
    read = _Read(page)
    for expected in ("0.5123", "0.4900 to 0.5300", "unknown", "31.5000", "Nothing here yet. red apple"):
        assert expected in read.text
    assert "#full" in read.addresses
    assert "#empty" in read.addresses
    assert '<td class="n over">' in page
    assert 'style="width: 80px"' in page
    assert 'style="width: 320px"' in page  # a bar that is ninefold too long stays on the page


def test_nothing_comes_from_outside() -> None:
    read = _Read(render_page(_page("models/pixart-xs")))
    assert "script" not in read.tags
    assert "link" not in read.tags
    assert all(address.startswith(("data:image/", "#", "models/")) for address in read.addresses)
    assert "models/pixart-xs" in read.addresses


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "https://example.org", "//example.org", "/etc/passwd"]
)
def test_unsafe_links_stay_text(link: str) -> None:
    read = _Read(render_page(_page(link)))
    assert not any(address.startswith(link) for address in read.addresses)
    assert link in read.text


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_escaped(text: str) -> None:
    tags = [
        [
            tag
            for tag in _Read(render_page(_page(said))).tags
            if tag in ("script", "img", "section", "table", "tr", "td")
        ]
        for said in (text, "red apple")
    ]
    assert tags[0] == tags[1]
    read = _Read(render_page(_page(text)))
    assert read.text.count(safe_text(text, 2000)) >= 5
    assert not set(read.text) & {"\x00", "\u202e"}


@settings(max_examples=50)
@given(st.lists(st.tuples(wild, wild, st.floats(-1e6, 1e6), st.integers()), min_size=1, max_size=3))
def test_markdown_and_html_say_the_same(rows: list[tuple[str, str, float, int]]) -> None:
    table = Table([Column("<first>"), Column("|second|"), Column("third", "+,.3f"), Column("n")], rows)
    page = render_page(Page("page", [Section("section", "section", tables=[table])]))
    body = page[page.index("<table") : page.index("</table>")]
    assert cells_of_html(body) == cells_of_markdown(markdown_table(table))
    assert cells_of_html(body)[1:] == [
        [safe_text(first, 2000), safe_text(second, 2000), f"{third:+,.3f}", f"{number:,}"]
        for first, second, third, number in rows
    ]


def test_write_replaces_in_one_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
    first = write_page(tmp_path / "report" / "report.html", _page())
    old = first.read_text(encoding="utf-8")
    second = write_page(first, replace(_page(), title="Another"))
    assert first == second
    assert "<title>Another</title>" in second.read_text(encoding="utf-8")
    assert old != second.read_text(encoding="utf-8")
    assert [path.name for path in second.parent.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(FoundryError, match=r"file/report\.html"):
        write_page(blocked / "report.html", _page())
    assert blocked.read_text() == "not a folder"


def test_a_picture_that_is_none_is_refused() -> None:
    page = Page("t", [Section("t", "t", figures=[Figure("t", b"<svg onload=x>")])])
    with pytest.raises(FoundryError, match="PNG or JPEG is allowed"):
        render_page(page)
