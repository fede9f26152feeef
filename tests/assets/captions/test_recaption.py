from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.captions.recaption import recaption
from assets.captions.statistics import (
    caption_statistics,
    content_words,
    count_captions,
    length_histogram,
    words,
)
from assets.schemas import RECAPTIONS, REGIONS
from training.errors import FoundryError


def regions(*rows: dict[str, Any]) -> pa.Table:
    """A regions table from what differs."""
    base = {
        "region_index": 0,
        "box_xyxy_norm": [0.1, 0.1, 0.4, 0.4],
        "area_fraction": 0.1,
        "color": "red",
        "names": ["apple"],
        "name_scores": [0.9],
        "name_source": "concept_bank",
        "text": "",
        "text_score": 0.0,
        "background_kind": "plain",
        "background_color": "blue",
        "model": "m",
        "model_digest": "d" * 64,
        "function_version": 1,
    }
    return pa.Table.from_pylist([{**base, **row} for row in rows], schema=REGIONS)


SURE, UNSURE = {"sample_id": "b"}, {"sample_id": "a", "name_scores": [0.3]}
ALT_TEXTS = {"a": "some fruit", "b": "apple!"}


def test_sure_captions_are_numbered_and_unsure_ones_leave_the_original() -> None:
    table = recaption(regions(SURE, UNSURE), ALT_TEXTS)
    assert table.schema.equals(RECAPTIONS, check_metadata=True)
    kept, full, short = table.to_pylist()
    assert (kept["sample_id"], kept["caption"], kept["kept_original"]) == ("a", "some fruit", True)
    assert (kept["caption_index"], kept["prompt"]) == (1, "original")
    assert kept["score"] == pytest.approx(0.3)
    assert [row["caption_index"] for row in (full, short)] == [1, 2]
    assert full["caption"] == "a red apple at the top left on a blue background"
    assert full["num_words"] == len(full["caption"].split())


def test_order_of_rows_does_not_matter_and_settings_are_in_the_key() -> None:
    assert recaption(regions(SURE, UNSURE), ALT_TEXTS) == recaption(regions(UNSURE, SURE), ALT_TEXTS)
    digests = {
        recaption(regions(SURE), ALT_TEXTS, **settings)["model_digest"][0].as_py()
        for settings in ({}, {"k": 1}, {"seed": 1}, {"min_confidence": 0.4})
    }
    assert len(digests) == 4
    other_perception = regions({**SURE, "model_digest": "e" * 64})
    assert recaption(other_perception, ALT_TEXTS)["model_digest"][0].as_py() not in digests


def test_an_empty_table_gives_an_empty_table() -> None:
    assert recaption(regions(), {}).num_rows == 0


def test_bad_settings_and_missing_alt_texts_are_named() -> None:
    with pytest.raises(FoundryError, match="min_confidence is 2"):
        recaption(regions(SURE), ALT_TEXTS, min_confidence=2)
    with pytest.raises(FoundryError, match="k is 0"):
        recaption(regions(), ALT_TEXTS, k=0)
    with pytest.raises(FoundryError, match="sample b: regions but no alt-text"):
        recaption(regions(SURE), {})


def test_statistics_by_hand() -> None:
    table = caption_statistics(ALT_TEXTS, recaption(regions(SURE, UNSURE), ALT_TEXTS))
    original, again, mixed = table.to_pylist()
    assert [row["captions"] for row in (original, again, mixed)] == ["original", "recaptioned", "mixed"]
    # original: {some, fruit}, {apple}
    assert (original["words_per_caption"], original["image_word_pairs"]) == (1.5, 3)
    # recaptioned: {some, fruit}, {red, apple, top, left, blue, background}
    assert (again["num_captions"], again["image_word_pairs"], again["unique_content_words"]) == (3, 8, 8)
    assert again["words_per_caption"] == pytest.approx((2 + 11 + 7) / 3)
    assert (mixed["num_captions"], mixed["content_words_per_image"]) == (4, 4.0)


def test_no_captions_count_as_nothing() -> None:
    assert count_captions({}) == count_captions({"a": []})
    assert count_captions({}).words_per_caption == 0.0


@given(st.lists(st.text(max_size=60), max_size=8))
def test_any_text_is_counted(captions: list[str]) -> None:
    assert sum(length_histogram(captions, 5)) == len(captions)
    for caption in captions:
        assert set(content_words(caption)) <= set(words(caption))


def test_words_of_many_scripts_and_the_long_tail() -> None:
    assert words("A dog's ball-game, 3x! Äpfel\n犬") == ["a", "dog's", "ball-game", "3x", "äpfel", "犬"]
    assert length_histogram(["", "one", "one two three four"], 2) == [1, 1, 1]
