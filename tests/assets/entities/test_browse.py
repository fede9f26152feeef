"""The page shows what it is given, a stranger's caption stays text, and nothing leads outside the file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from assets.entities.browse import (
    PageCaption,
    PageEntity,
    PageSample,
    choose_samples,
    count_reasons,
    gather_samples,
    render_page,
    script_json,
    write_pages,
)
from training.errors import FoundryError

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> @@DATA@@ \u202e"


def _image(width: int = 64, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def _sample(text: str = "a dog", **changes: Any) -> PageSample:
    entity = PageEntity(text, "dog", text, (0.1, 0.2, 0.5, 0.9), 0.75, 0.5, "regions", "low_score")
    values: dict[str, Any] = {
        "sample_id": "s1", "image": _image(), "split": "train", "license": text, "attribution": text,
        "captions": (PageCaption(text, text, 0.5),), "entities": (entity,),
    }  # fmt: skip
    return PageSample(**values | changes)


def _data(page: str) -> dict[str, Any]:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0])


def test_untrusted_text_never_becomes_markup() -> None:
    page = render_page([_sample(EVIL)], title=EVIL, facts={EVIL: EVIL})
    harmless = render_page([_sample("x")], title="x", facts={})
    for tag in ("<script", "</script", "<img", "<style"):
        assert page.count(tag) == harmless.count(tag)
    data = _data(page)
    visible = EVIL.replace(" \u202e", "")
    assert data["samples"][0]["captions"][0]["text"] == visible
    assert data["samples"][0]["entities"][0]["phrase"] == visible
    assert data["title"] == visible
    assert "\u202e" not in page


@given(st.text())
def test_data_survives_and_no_tag_begins_in_it(text: str) -> None:
    written = script_json({"text": text})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"text": text}


def test_the_script_uses_no_way_that_parses_markup() -> None:
    script = re.findall(r"<script>(.*?)</script>", render_page([_sample()], title="t", facts={}), re.DOTALL)[
        0
    ]
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert way not in script


def test_policy_allows_exactly_the_pages_own_script_and_style() -> None:
    page = render_page([_sample()], title="t", facts={})
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0].replace("&#x27;", "'")
    for tag in ("script", "style"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    outside = [
        address for address in re.findall(r"https?://[^\s\"']+", page) if "w3.org/2000/svg" not in address
    ]
    assert outside == []


def test_pictures_and_numbers_on_the_page() -> None:
    large = _image(900, 300)
    data = _data(
        render_page(
            [_sample(), _sample(sample_id="s2", image=large)], title="t", facts={"n": "2"}, thumbnail_px=120
        )
    )
    small, scaled = data["samples"]
    assert (small["width"], small["height"]) == (64, 64)
    assert (scaled["width"], scaled["height"]) == (120, 40)
    decoded = Image.open(io.BytesIO(base64.b64decode(small["image"].split(",")[1])))
    assert decoded.size == (64, 64)
    assert small["entities"][0]["box"] == [0.1, 0.2, 0.5, 0.9]
    assert small["entities"][0]["dropped"] == "low_score"
    assert data["facts"] == {"n": "2"}


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    pages = [write_pages(tmp_path / name, [_sample()], title="t").read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]
    with pytest.raises(FoundryError, match="found no samples"):
        write_pages(tmp_path, [], title="t")


def test_rare_reasons_are_chosen_beside_common_ones() -> None:
    rows = [(f"s{number:03d}", "a", "") for number in range(100)]
    rows += [("s099", "a", "too_small"), ("s050", "b", "low_score"), ("s051", "b", "low_score")]
    names = ("sample_id", "annotator", "dropped_because")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    chosen = choose_samples(table, 5)
    assert chosen == ["s000", "s099", "s050", "s001", "s051"]
    assert len(choose_samples(table, 1000)) == 100
    assert choose_samples(table.slice(0, 0), 3) == []
    with pytest.raises(FoundryError, match="max_samples is 0"):
        choose_samples(table, 0)


def test_gathering_joins_the_tables() -> None:
    box = [0.0, 0.0, 0.5, 0.5]
    annotations = pa.Table.from_pylist(
        [
            {"sample_id": "s1", "annotator": "a", "entity_index": index, "phrase": phrase, "description": "d",
             "box_xyxy_norm": box, "score": 0.5, "detector_score": 0.4, "keep": not why, "dropped_because": why}
            for index, phrase, why in [(1, "a soccer ball", "too_small"), (0, "red dog", "")]
        ]
    )  # fmt: skip
    recaptions = pa.Table.from_pylist(
        [{"sample_id": "s1", "caption_index": 1, "caption": "c", "score": 0.9, "model": "m", "keep": False,
          "dropped_because": "duplicate"}]
    )  # fmt: skip
    images = pa.Table.from_pylist(
        [{"sample_id": sample_id, "image": b"", "split": "train", "alt_text": "alt", "license": "CC0-1.0",
          "attribution": "me"} for sample_id in ("s0", "s1")]
    )  # fmt: skip
    samples = gather_samples(["missing", "s1"], images, recaptions, annotations, ["soccer ball"])
    assert [sample.sample_id for sample in samples] == ["s1"]
    assert [entity.concept for entity in samples[0].entities] == ["dog", "soccer ball"]
    assert [entity.dropped for entity in samples[0].entities] == ["", "too_small"]
    assert [(c.text, c.score, c.dropped) for c in samples[0].captions] == [
        ("alt", None, ""),
        ("c", pytest.approx(0.9), "duplicate"),
    ]
    assert count_reasons(annotations) == {"kept": 1, "too_small": 1}


def _shown(path: Path, folder: Path) -> str:
    """The page's elements after its script has run in a browser."""
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={folder / 'profile'}", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine")


@pytest.mark.slow
@needs_chromium
def test_a_browser_shows_the_cards_and_runs_nothing_else(tmp_path: Path) -> None:
    path = write_pages(tmp_path, [_sample(EVIL), _sample(sample_id="s2")], title="samples")
    shown = _shown(path, tmp_path)
    assert shown.count("<article>") == 2
    assert "1 to 2 of 2 samples" in shown
    assert "<title>samples</title>" in shown


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(
    ("field", "value", "ids"),
    [
        ("concept", "cat", ["s02"]),
        ("reason", "kept", ["s00", "s02"]),
        ("reason", "any dropped", ["s01"]),
        ("reason", "too_small", ["s01"]),
        ("annotator", "nano", ["s01"]),
        ("split", "judge", ["s02"]),
        ("low", "0.85", ["s02"]),
        ("high", "0.75", ["s00"]),
        ("search", "CAPTION OF S01", ["s01"]),
        ("search", "nowhere", []),
    ],
)
def test_filters(tmp_path: Path, field: str, value: str, ids: list[str]) -> None:
    samples = [
        _sample(
            sample_id=f"s{number:02d}",
            split="judge" if number == 2 else "train",
            captions=(PageCaption(f"caption of s{number:02d}", "m"),),
            entities=(
                PageEntity("x", ("dog", "dog", "cat")[number], "d", (0.0, 0.0, 0.5, 0.5), 0.7 + number / 10, 0.5,
                           "nano" if number == 1 else "embedded", "too_small" if number == 1 else ""),
            ),
        )
        for number in range(3)
    ]  # fmt: skip
    page = render_page(samples, title="samples", facts={})
    # A hand at the page: without its policy a second script may set a field as a person would.
    hand = f"const f = byId({field!r}); f.value = {value!r}; f.dispatchEvent(new Event('input', {{bubbles: true}}));"
    page = page.replace('http-equiv="Content-Security-Policy"', 'name="was-policy"')
    (tmp_path / "index.html").write_text(page.replace("</body>", f"<script>{hand}</script></body>"))
    assert re.findall(r"<h2[^>]*>(s\d+)</h2>", _shown(tmp_path / "index.html", tmp_path)) == ids
