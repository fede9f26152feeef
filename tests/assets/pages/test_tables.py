"""Whatever strangers write, a table says the same in Markdown and in HTML, and nothing of it comes alive."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from assets.pages.markdown import NOTHING, escape, markdown_table
from assets.pages.tables import Bar, Cell, Column, Entry, Picture, Table, spans_of, table_of_records
from evaluation.intervals import Interval
from evaluation.plots.contact_sheets import safe_text
from tests.assets.pages.reading import cells_of_markdown

wild = st.text() | st.lists(
    st.sampled_from(
        ["|", "\n", "`", "\\", "<script>", "</td>", "&amp;", "*", "_", "[a](b)", "a", " ", "---", "$", "~~"]
    )
).map("".join)


@settings(deadline=None)
@given(st.text())
def test_escaped_text_is_one_line_without_live_markup(text: str) -> None:
    line = escape(text)
    assert "\n" not in line
    assert "<" not in line
    bare = re.sub(r"&#\d+;", "", line)
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]|#!`*_]", bare)


@settings(deadline=None)
@given(st.lists(st.tuples(wild, wild, wild), min_size=1, max_size=4))
@example([("a\\", "|", "`x`"), ("| b", "\\|", "[x](javascript:1)"), ("", "<b>", "\\`|`")])
def test_markdown_says_every_cell_and_nothing_else(rows: list[tuple[str, str, str]]) -> None:
    table = Table([Column("first"), Column("|second|"), Column("third", ",.3f")], rows)
    head, *body = cells_of_markdown(markdown_table(table))
    assert head == ["first", "|second|", "third"]
    assert body == [[safe_text(text, 2000) for text in row] for row in rows]


def test_figures_are_written_by_their_columns_form() -> None:
    columns = [Column("a", ",.3f", "unknown"), Column("b", "+.1%"), Column("c"), Column("d", ",")]
    rows: list[tuple[Entry, ...]] = [
        (0.5, -0.0456, True, 1234567),
        (None, Interval(-0.05, -0.1, 0.0), 12345.678, "by threshold"),
        (float("nan"), Interval(1.0, float("-inf"), float("inf")), None, Cell(7, note="half", form="03d")),
    ]
    assert markdown_table(Table(columns, rows, title="All *of* it")).splitlines() == [
        "**All \\*of\\* it**",
        "",
        "| a | b | c | d |",
        "|---:|---:|---|---:|",
        "| 0.500 | -4.6% | yes | 1,234,567 |",
        "| unknown | -5.0% (-10.0% to +0.0%) | 1.235e+04 | by threshold |",
        "| not finite | +100.0% |  | 007 (half) |",
    ]


def test_pictures_have_their_words_and_bars_none() -> None:
    assert [span.text for span in spans_of(Column(""), Picture(b"", "a cat"))] == ["a cat"]
    assert spans_of(Column(""), Bar(0.5)) == []


def test_a_digest_is_code_unless_it_could_leave_the_code() -> None:
    rows = [[Cell("abc123", code=True)], [Cell("a`|`b", code=True)]]
    assert cells_of_markdown(markdown_table(Table([Column("digest")], rows)))[1:] == [["abc123"], ["a`|`b"]]


def test_records_become_columns_and_an_empty_table_says_so() -> None:
    table = table_of_records(
        [{"name": "a", "count": 1200, "share": None}, {"name": "b", "count": None, "share": 0.5}]
    )
    assert [column.stands_right for column in table.columns] == [False, True, True]
    assert markdown_table(table).splitlines()[2:] == ["| a | 1,200 |  |", "| b |  | 0.5 |"]
    assert markdown_table(table_of_records([])) == NOTHING
