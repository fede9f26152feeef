from __future__ import annotations

import io
import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assets.captions.plots import statistics_figures
from assets.captions.sheets import statistics_markdown
from assets.captions.statistics import CAPTION_STATISTICS, caption_check, caption_statistics
from assets.encodings.text import text_id
from assets.pages.sheets import figure_jpeg
from training.errors import FoundryError

NOUNS = ("apple", "tree", "dog", "sky")
Captions = dict[str, tuple[str, list[tuple[str, bool]]]]

EXAMPLE: Captions = {
    "a": ("an apple", [("red apple under a tree", True), ("a dog", False)]),
    "b": ("", [("a dog and a dog", True), ("the sky above a dog", True)]),
    "c": ("tree tree", [("no idea", False)]),
}


def _nouns_of(caption: str) -> list[str]:
    """A tagger for tests: the words that are in the list."""
    return [word for word in re.findall(r"\w+", caption) if word in NOUNS]


def _tables(captions: Captions) -> tuple[pa.Table, pa.Table, pa.Table]:
    alt_texts = pa.table(
        {
            "sample_id": pa.array(captions, pa.string()),
            "alt_text": pa.array([alt for alt, _ in captions.values()], pa.string()),
        }
    )
    rows = [
        (sample_id, caption, keep)
        for sample_id, (_, generated) in captions.items()
        for caption, keep in generated
    ]
    texts = sorted({caption for _, caption, _ in rows} | {alt for alt, _ in captions.values()})
    nouns = pa.table(
        {
            "text_id": pa.array([text_id(text) for text in texts], pa.string()),
            "nouns": pa.array([_nouns_of(text) for text in texts], pa.list_(pa.string())),
            "num_words": pa.array([len(text.split()) for text in texts], pa.int32()),
        }
    )
    schema = pa.schema([("sample_id", pa.string()), ("caption", pa.string()), ("keep", pa.bool_())])
    return (
        alt_texts,
        pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema),
        nouns,
    )


def _reference(captions: Captions) -> dict[str, dict[str, Any]]:
    """The paper's columns with loops and sets."""
    answer = {}
    for name in ("original", "recaptioned", "mixed"):
        said = []
        for alt, generated in captions.values():
            kept = [caption for caption, keep in generated if keep]
            said.append({"original": [alt], "recaptioned": kept or [alt], "mixed": [alt, *kept]}[name])
        nouns = [{noun for caption in of_image for noun in _nouns_of(caption)} for of_image in said]
        everything = [caption for of_image in said for caption in of_image]
        answer[name] = {
            "num_images": len(captions),
            "num_captions": len(everything),
            "words_per_caption": sum(len(caption.split()) for caption in everything) / len(everything),
            "image_noun_pairs": sum(len(found) for found in nouns),
            "nouns_per_image": sum(len(found) for found in nouns) / len(captions),
            "unique_nouns": len(set().union(*nouns)),
        }
    return answer


_WORDS = st.lists(st.sampled_from([*NOUNS, "red", "of", "\U0001f34e"]), max_size=6).map(" ".join)
_SAMPLES = st.lists(
    st.tuples(_WORDS, st.lists(st.tuples(_WORDS, st.booleans()), min_size=1, max_size=4)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(_SAMPLES)
def test_the_papers_columns_equal_loops_and_sets(samples: list[tuple[str, list[tuple[str, bool]]]]) -> None:
    captions = {f"s{index}": sample for index, sample in enumerate(samples)}
    table = caption_statistics(*_tables(captions))
    assert table.schema.equals(CAPTION_STATISTICS, check_metadata=True)
    for row in table.to_pylist():
        expected = _reference(captions)[row["captions"]]
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        # N/I is I-N / I, exactly; the last row of the paper's table breaks this (12.2 against 11.97).
        assert row["nouns_per_image"] == row["image_noun_pairs"] / row["num_images"]
        assert sum(row["words_histogram"]) == row["num_captions"] == row["growth_captions"][-1]
        assert row["growth_unique_nouns"][-1] == row["unique_nouns"]
        assert row["growth_unique_nouns"] == sorted(row["growth_unique_nouns"])


def test_samples_that_were_not_recaptioned_do_not_count() -> None:
    alt_texts, recaptions, nouns = _tables(EXAMPLE)
    more = pa.concat_tables([pa.table({"sample_id": ["x"], "alt_text": ["sky"]}), alt_texts])
    assert caption_statistics(more, recaptions, nouns).equals(
        caption_statistics(alt_texts, recaptions, nouns)
    )


def test_no_samples_give_zeros() -> None:
    rows = caption_statistics(*_tables({})).to_pylist()
    assert [(row["num_images"], row["nouns_per_image"], row["growth_captions"]) for row in rows] == [
        (0, 0.0, [])
    ] * 3
    assert caption_check(caption_statistics(*_tables({}))).passed


def test_missing_alt_texts_and_nouns_are_named() -> None:
    alt_texts, recaptions, nouns = _tables(EXAMPLE)
    with pytest.raises(FoundryError, match="sample a .* no alt-text"):
        caption_statistics(alt_texts.slice(1), recaptions, nouns)
    with pytest.raises(FoundryError, match="caption_nouns lacks 1 of 8 captions"):
        caption_statistics(alt_texts, recaptions, nouns.slice(1))


def test_long_captions_share_the_last_bar_of_the_histogram() -> None:
    histograms = caption_statistics(*_tables(EXAMPLE), longest_words=5)["words_histogram"].to_pylist()
    assert histograms[0] == [1, 0, 2, 0, 0, 0]
    # a says 5 words; b says 5 and 5; all of c's were dropped, so that its alt-text of 2 words stands
    assert histograms[1] == [0, 0, 1, 0, 0, 3]
    assert caption_statistics(*_tables(EXAMPLE), longest_words=2)["words_histogram"].to_pylist()[1] == [
        0,
        0,
        4,
    ]


def _statistics(nouns_per_image: list[float], unique: list[int], repeats: float = 0.0) -> pa.Table:
    rows = [
        {
            "captions": name,
            "nouns_per_image": density,
            "unique_nouns": different,
            "near_duplicate_share": repeats,
        }
        for name, density, different in zip(
            ("original", "recaptioned", "mixed"), nouns_per_image, unique, strict=True
        )
    ]
    return pa.Table.from_pylist(rows)


def test_the_check_wants_denser_captions_that_have_not_collapsed() -> None:
    good = _statistics([2.0, 3.0, 4.0], [100, 80, 110])
    gate = caption_check(good, min_density_gain=1.2, min_diversity_ratio=0.7)
    assert gate.passed
    assert (gate.findings["density_gain"], gate.findings["diversity_ratio"]) == (1.5, 0.8)
    assert not caption_check(good, min_density_gain=1.6).findings["dense"]
    assert not caption_check(good, min_diversity_ratio=0.9).findings["diverse"]
    assert not caption_check(_statistics([2.0, 3.0, 4.0], [100, 80, 110], 0.95)).passed
    assert not caption_check(_statistics([2.0, 3.0, 4.0], [100, 80, 90])).passed


def test_figures_show_all_sets_and_the_page_gets_small_ones() -> None:
    table = caption_statistics(*_tables(EXAMPLE))
    for name, png in statistics_figures(table).items():
        picture = Image.open(io.BytesIO(png))
        assert name.endswith(".png")
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
        assert len(figure_jpeg(png)) < 120_000


def test_untrusted_captions_cannot_break_the_markdown() -> None:
    captions: Captions = {"a": ("x", [("<img> | a\n# b", True), ("<img> | a\n# b.", True)])}
    text = statistics_markdown(caption_statistics(*_tables(captions)))
    assert len(text.splitlines()) == 5
    assert "<img>" not in text.replace("\\<", "")
