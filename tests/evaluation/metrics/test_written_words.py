"""Scores of what OCR read equal the published code's on its own examples, and behave on any text."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.language.spelling import edit_distance, normalized
from evaluation.metrics.written_words import chance_level, score_words, shared_characters
from training.errors import FoundryError

GOLDEN = [  # read, wanted, precision, recall, accuracy of the published code
    ("hello", "hello", 1, 1, True),
    ("olleh", "hello", 1, 1, True),
    ("helo", "hello", 1, 0.8, False),
    ("hellooo", "hello", 0.7143, 1, False),
    ("", "hello", 0, 0, False),
    ("world", "hello", 0.4, 0.4, False),
    ("hello world", "hello", 0.4545, 1, False),
    ("he llo", "hello", 0.8333, 1, True),
    ("aab", "abb", 0.6667, 0.6667, False),
]
texts = st.text("abAB  cé", max_size=7)


@pytest.mark.parametrize(("read", "wanted", "precision", "recall", "same"), GOLDEN)
def test_the_published_examples(read: str, wanted: str, precision: float, recall: float, same: bool) -> None:
    found = shared_characters(read, wanted)
    assert found.precision == pytest.approx(precision, abs=5e-5)
    assert found.recall == pytest.approx(recall, abs=5e-5)
    assert found.is_anagram is same


def test_f1_is_of_the_means_and_not_a_mean_of_f1s() -> None:
    found = score_words(["hellooo", "hell"], ["hello", "hello"]).f1()
    mean_precision, mean_recall = (5 / 7 + 1) / 2, (1 + 0.8) / 2
    assert found.value == pytest.approx(
        2 * mean_precision * mean_recall / (mean_precision + mean_recall), abs=1e-5
    )
    mean_of_f1s = (10 / 12 + 8 / 9) / 2
    assert found.value != pytest.approx(mean_of_f1s, abs=1e-3)
    assert found.low < found.value < found.high


def test_differences_are_paired() -> None:
    words = [f"WORD{number}" for number in range(30)]
    half = ["word" + str(number) if number % 2 else "" for number in range(30)]
    first, second = score_words(half, words), score_words(["x"] * 30, words)
    difference = first.f1_minus(second)
    assert difference.value == pytest.approx(first.f1().value - second.f1().value)
    assert difference.low > 0
    assert first.f1_minus(first).low == first.f1_minus(first).high == 0


def by_definition(mine: str, other: str) -> int:
    """Levenshtein's recursion, written out."""

    @cache
    def of(i: int, j: int) -> int:
        if min(i, j) == 0:
            return max(i, j)
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (mine[i - 1] != other[j - 1]))

    return of(len(mine), len(other))


@given(texts, texts)
def test_edit_distance_is_levenshteins(read: str, wanted: str) -> None:
    mine, other = normalized(read), normalized(wanted)
    longer = max(len(mine), len(other), 1)
    assert edit_distance(read, wanted) == pytest.approx(by_definition(mine, other) / longer)


@given(texts, texts)
def test_shares_are_shares_and_order_does_not_matter(read: str, wanted: str) -> None:
    found = shared_characters(read, wanted)
    assert 0 <= found.precision <= 1
    assert 0 <= found.recall <= 1
    turned = shared_characters(normalized(read)[::-1], wanted)
    assert (turned.precision, turned.recall) == pytest.approx((found.precision, found.recall))
    if normalized(wanted):
        assert shared_characters(wanted, wanted).recall == pytest.approx(1)


def test_chance_compares_with_words_of_other_pictures() -> None:
    words = ["STOP", "OPEN", "STOP"]
    found = chance_level(words, words)
    # stop/open, open/stop; the third picture's neighbour wants the same word and is left out
    assert found.value == pytest.approx(0.5, abs=1e-5)
    assert found.count == 2
    with pytest.raises(FoundryError, match="two different words"):
        chance_level(["a", "b"], ["X", "X"])


def test_case_and_spaces_do_not_count_but_for_the_published_space() -> None:
    scores = score_words(["  Stop "], ["STOP"])
    assert np.all([scores.exact, scores.anagram])
    assert scores.distance == 0
    with pytest.raises(FoundryError, match="1 readings and 2 words"):
        score_words(["a"], ["a", "b"])
    with pytest.raises(FoundryError, match="0 readings"):
        score_words([], [])
