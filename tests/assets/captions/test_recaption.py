from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.captions.recaption import (
    GLOBAL_CAPTIONS,
    global_captions,
    normalised_words,
    select_captions,
)
from assets.graph.schemas import RECAPTIONS
from evaluation.tables.perception import CAPTIONS
from training.errors import FoundryError


def captions(*rows: dict[str, Any]) -> pa.Table:
    """A captions table from what differs."""
    base = {
        "sample_id": "a",
        "caption_index": 1,
        "caption": "a red apple",
        "score": 0.9,
        "prompt": "short",
        "decoding": "{}",
        "seed": 0,
        "num_tokens": 3,
        "model": "m",
        "model_digest": "d" * 64,
        "function_version": 1,
    }
    return pa.Table.from_pylist([{**base, **row} for row in rows], schema=CAPTIONS)


def test_every_reason_is_given_and_no_row_is_lost() -> None:
    table = captions(
        {"caption_index": 3, "caption": " A red APPLE! "},
        {"caption_index": 1},
        {"caption_index": 2, "caption": "a pear", "score": 0.49},
        {"caption_index": 4, "caption": "an apple"},
        {"caption_index": 5, "caption": "fruit"},
        {"caption_index": 6, "caption": " ..."},
        {"sample_id": "b", "caption": "an apple"},
    )
    selected = select_captions(table, 0.5, max_captions=2)
    assert selected.schema.equals(RECAPTIONS, check_metadata=True)
    reasons = ["", "low_confidence", "duplicate", "", "too_many", "empty", ""]
    assert selected["dropped_because"].to_pylist() == reasons
    assert selected["keep"].to_pylist() == [not reason for reason in reasons]
    assert selected["num_words"].to_pylist() == [3, 2, 3, 2, 1, 1, 2]
    assert selected["sample_id"].to_pylist() == ["a"] * 6 + ["b"]


def test_what_was_too_unsure_does_not_make_others_duplicates() -> None:
    table = captions({"score": 0.1}, {"caption_index": 2})
    assert select_captions(table)["dropped_because"].to_pylist() == ["low_confidence", ""]
    no_number = captions({"score": float("nan")})
    assert select_captions(no_number, 0.0)["dropped_because"].to_pylist() == ["low_confidence"]


_ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "X.", "y z", ""]), st.floats(0, 1, width=32)),
    max_size=8,
)


@given(_ROWS, st.floats(0, 1), st.integers(1, 3), st.randoms())
def test_selection_is_the_obvious_one_in_any_order(
    rows: list[tuple[str, str, float]], sure: float, most: int, random: Any
) -> None:
    table = captions(
        *(
            {"sample_id": sample, "caption": caption, "score": score, "caption_index": index}
            for index, (sample, caption, score) in enumerate(rows, start=1)
        )
    )
    expected: dict[int, bool] = {}
    for index, (sample, caption, score) in enumerate(rows, start=1):
        same = [other for other in range(1, index) if rows[other - 1][0] == sample and expected[other]]
        words = normalised_words(caption)
        is_new = all(normalised_words(rows[other - 1][1]) != words for other in same)
        expected[index] = bool(words) and score >= sure and is_new and len(same) < most
    shuffled = list(range(len(table)))
    random.shuffle(shuffled)
    selected = select_captions(table.take(pa.array(shuffled, pa.int64())), sure, most)
    assert (
        dict(zip(selected["caption_index"].to_pylist(), selected["keep"].to_pylist(), strict=True))
        == expected
    )


def test_the_best_kept_caption_speaks_for_the_image_or_the_alt_text() -> None:
    table = captions(
        {"score": 0.1}, {"caption_index": 3, "caption": "c"}, {"caption_index": 2, "caption": "b"},
        {"sample_id": "b", "score": 0.2},
    )  # fmt: skip
    found = global_captions(select_captions(table), {"b": "alt b", "a": "alt a", "c": ""})
    assert found.schema.equals(GLOBAL_CAPTIONS)
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("a", "b", 2),
        ("b", "alt b", 0),
        ("c", "", 0),
    ]
    assert global_captions(select_captions(captions()), {}).num_rows == 0


def test_bad_settings_and_missing_alt_texts_are_named() -> None:
    with pytest.raises(FoundryError, match="min_confidence is 2"):
        select_captions(captions(), 2)
    with pytest.raises(FoundryError, match="max_captions is 0"):
        select_captions(captions(), 0.5, 0)
    with pytest.raises(FoundryError, match="captions table lacks the columns score"):
        select_captions(captions().drop_columns("score"))
    with pytest.raises(FoundryError, match="sample a: captions but no alt-text"):
        global_captions(select_captions(captions({})), {"b": ""})


@given(st.text())
def test_any_text_has_words(text: str) -> None:
    words = normalised_words(text)
    assert normalised_words(words) == words
