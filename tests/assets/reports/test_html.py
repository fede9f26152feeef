"""The report is one self-contained file, escapes what strangers wrote, and replaces itself in one step."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assets.reports.data import (
    CaptionRow,
    EfficiencyRow,
    Figure,
    LawRow,
    LineageRow,
    MeasureRow,
    ModelRow,
    PrunedRow,
    ReportData,
    SampleRow,
    SmallerRow,
    StudentRow,
    StudyRow,
    TeacherRow,
    Verdict,
)
from assets.reports.html import render_report, write_report
from assets.reports.ledger import ledger_rows
from evaluation.claims.registry import Measurement, claim_results
from evaluation.intervals import Interval
from evaluation.plots.contact_sheets import safe_text
from training.errors import FoundryError

VOID = {"meta", "img", "br", "link"}


class _Page(HTMLParser):
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


def _png(color: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), color, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _data(text: str = "red apple") -> ReportData:
    """A full report in which every free text is ``text``."""
    return ReportData(
        title=text,
        profile=text,
        created_at="2026-01-01",
        facts={text: text},
        verdicts=[Verdict(text, "yes", text)],
        models=[
            ModelRow(
                text, text, 120_000, 30_000, Interval(0.5123, 0.49, 0.53), kid=0.1, digest=text, link=text
            )
        ],
        students=[
            StudentRow(text, text, text, 2, Interval(0.2, 0.1, 0.3), Interval(0.0457, 0.01, 0.08)),
            StudentRow(text, text, text, 16, Interval(0.2, 0.1, 0.3)),
        ],
        teachers=[TeacherRow(text, text, Interval(0.7123, 0.6, 0.8), 0.125, 0.8, 0.9, "holds")],
        smaller=[
            SmallerRow(text, text, 987_654, 10, 1.5, Interval(0.2, 0.1, 0.3)),
            SmallerRow(
                text, text, 400_000, 5, 1.0, Interval(0.2, 0.1, 0.3), Interval(-0.0789, -0.1, 0.0), 0.91
            ),
        ],
        smaller_figures=[Figure(text, _png(), text)],
        study=[
            StudyRow(text, text, text, 6, Interval(0.0321, 0.01, 0.05), "holds"),
            StudyRow(text, text, text, 1, None, "waits for two seeds a side"),
        ],
        study_figures=[Figure(text, _png(), text)],
        pruned=[
            PrunedRow(
                text,
                text,
                text,
                "none",
                0.2,
                0.8123,
                0.79,
                1.07,
                0.9,
                Interval(-0.0456, -0.1, 0.0),
                0.93,
                12.0,
            ),
            PrunedRow(
                text, text, text, text, None, 0.8, 0.79, 1.07, 0.9, Interval(-0.01, -0.1, 0.0), 0.93, 12.0
            ),
        ],
        pruned_figures=[Figure(text, _png(), text)],
        samples=[SampleRow(text, "held_out_images", _png(), {text: _png(9)})],
        training_figures=[Figure(text, _png(), text)],
        perception=[
            MeasureRow(text, text, None),
            MeasureRow(text, text, Interval(0.8, 0.7, 0.9, 0.95, 77), 0.03),
        ],
        captions=[CaptionRow(text, 1200, 3.1, 2.2, 60, 2640, 0.125)],
        laws=[LawRow(text, text, "pure", 3, 3, False, f"not identifiable: {text}")],
        grid_facts=text,
        grid_figures=[Figure(text, _png(), text)],
        efficiency=[EfficiencyRow(text, 0.25, 2, 3, text, None)],
        claims=claim_results({"compute_law": Measurement(text, "holds", "smoke", 3)}),
        ledger=ledger_rows({"judge": 31.5}),
        lineage=[LineageRow(text, text, text, [text], text)],
        credits=[text],
        limits=[text],
    )


def test_everything_is_shown() -> None:
    text = _Page(render_report(_data())).text
    for expected in (
        "0.5123",
        "120,000",
        "unknown",
        "31.5",
        "not identifiable",
        "not run",
        "Twemoji",
        "CC-BY 4.0",
        "77",
        "0.046",  # a student above its teacher
        "0.712",  # a teacher's score
        "987,654",
        "0.812",  # parameters that pruning leaves
        "-0.046",  # a pruned model below the whole one
        "by threshold",
        "0.032",  # a contrast of the study
        "waits for two seeds a side",
        "-0.079",  # a smaller model below its parent
    ):
        assert expected in text


def test_an_empty_report_says_so() -> None:
    page = _Page(render_report(ReportData("Report", "smoke", "now")))
    assert page.text.count("Nothing here yet") >= 9
    assert "Twemoji" in page.text


def test_nothing_comes_from_outside() -> None:
    page = _Page(render_report(_data("models/pixart-xs")))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(address.startswith(("data:image/", "#", "models/")) for address in page.addresses)


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "https://example.org", "//example.org", "/etc/passwd"]
)
def test_unsafe_links_stay_text(link: str) -> None:
    page = _Page(render_report(_data(link)))
    assert not any(address.startswith(link) for address in page.addresses)
    assert link in page.text


@pytest.mark.parametrize(
    "text",
    [
        '"><script>alert(1)</script>',
        "{{ 7*7 }} {% raw %}",
        "' onload='x",
        "</main><!--",
        "a\u202e\x00\n漢字",
        "",
    ],
)
def test_any_text_is_escaped(text: str) -> None:
    page = _Page(render_report(_data(text)))
    plain = _Page(render_report(_data()))
    assert [tag for tag in page.tags if tag != "a"] == [tag for tag in plain.tags if tag != "a"]
    assert page.text.count(safe_text(text, 2000)) >= 5
    assert not set(page.text) & {"\x00", "\u202e"}


def test_write_replaces_in_one_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
    first = write_report(tmp_path / "report", _data())
    old = first.read_text(encoding="utf-8")
    second = write_report(tmp_path / "report", replace(_data(), title="Another"))
    assert first == second
    assert "<title>Another</title>" in second.read_text(encoding="utf-8")
    assert old != second.read_text(encoding="utf-8")
    assert [path.name for path in second.parent.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(FoundryError, match="file/report.html"):
        write_report(blocked, _data())
    assert blocked.read_text() == "not a folder"


def test_a_picture_that_is_none_is_refused() -> None:
    data = replace(_data(), training_figures=[Figure("t", b"<svg onload=x>")])
    with pytest.raises(FoundryError, match="PNG or JPEG is allowed"):
        render_report(data)
