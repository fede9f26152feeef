from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.perception.captioner import (
    compose_captions,
    noun_phrase,
    place_words,
    relation,
    with_article,
)
from training.errors import FoundryError


def region(
    name: str = "", score: float = 0.9, box: tuple[float, ...] = (0.1, 0.1, 0.4, 0.4), **other: Any
) -> dict[str, Any]:
    """A row of the regions table, as far as captions need it."""
    row = {
        "sample_id": "s",
        "box_xyxy_norm": list(box),
        "area_fraction": 0.1,
        "color": "red",
        "names": [name] if name else [],
        "name_scores": [score] if name else [],
        "text": "",
        "text_score": 0.0,
        "background_kind": "plain",
        "background_color": "blue",
    }
    return {**row, **other}


def test_one_object_in_four_densities() -> None:
    captions = compose_captions([region("apple", 0.8)], k=4)
    assert [caption.text for caption in captions] == [
        "a red apple at the top left on a blue background",
        "a red apple on a blue background",
        "a red apple at the top left on a blue background",
        "an apple",
    ]
    assert {caption.score for caption in captions} == {0.8}


def test_two_objects_are_related_truly_in_whatever_order_they_are_told() -> None:
    left = region("apple", box=(0.0, 0.4, 0.2, 0.6))
    right = region("tree", box=(0.7, 0.4, 0.9, 0.6), color="green")
    told = {compose_captions([left, right], k=1, seed=seed)[0].text for seed in range(12)}
    assert told == {
        "a red apple, a green tree right of the apple on a blue background",
        "a green tree, a red apple left of the tree on a blue background",
    }


def test_words_unnamed_objects_and_unknown_backgrounds() -> None:
    word = region(text="STOP", text_score=0.9, box=(0, 0, 1, 0.2))
    full = compose_captions([region("sun"), word], k=1)[0]
    assert full.text == "a red sun at the top left on a blue background with the word STOP"
    sign = compose_captions([word], k=2)
    assert [caption.text for caption in sign] == ["a sign on a blue background with the word STOP"]
    unnamed = compose_captions([region(), region("sun", 1.0)], k=2)
    assert unnamed[0].score == pytest.approx(0.5)
    assert "a red object" in unnamed[1].text
    photo = region("dog", box=(0, 0, 1, 1), background_kind="unknown", background_color="")
    assert compose_captions([photo], k=1)[0].text == "a red dog in the middle"


def test_nothing_to_say_says_nothing() -> None:
    whole = region(box=(0, 0, 1, 1), area_fraction=1.0)
    assert compose_captions([whole]) == []


def test_equal_objects_are_counted_and_colors_not_said_twice() -> None:
    hearts = [
        region("blue heart", color="blue"),
        region("blue heart", color="blue", box=(0.5, 0.5, 0.9, 0.9)),
    ]
    assert compose_captions(hearts, k=2)[1].text == "two blue hearts on a blue background"
    assert noun_phrase(region("blue heart")) == "blue heart"


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 0.9))
def test_relations_are_antisymmetric(x1: float, y1: float, x2: float, y2: float) -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    forth, back = relation((x1, y1), (x2, y2)), relation((x2, y2), (x1, y1))
    assert back == opposite.get(forth, "next to")
    if forth == "left of":
        assert x1 < x2


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0.4, 0.4, 0.6, 0.6), "in the middle"),
        ((0.4, 0.0, 0.6, 0.2), "at the top"),
        ((0.8, 0.4, 1.0, 0.6), "on the right"),
        ((0.0, 0.8, 0.2, 1.0), "at the bottom left"),
    ],
)
def test_places(box: tuple[float, ...], words: str) -> None:
    assert place_words(box) == words


def test_articles_and_repeatability() -> None:
    assert (with_article("orange sun"), with_article("red sun")) == ("an orange sun", "a red sun")
    rows = [region("apple"), region("sun", box=(0.5, 0.5, 0.9, 0.9)), region("cat", box=(0.5, 0, 0.9, 0.3))]
    assert compose_captions(rows, 2, 5) == compose_captions(rows, 2, 5)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(FoundryError, match="k is 5, allowed are 1 to 4"):
        compose_captions([region()], k=5)
    with pytest.raises(FoundryError, match="regions of 0"):
        compose_captions([])
    with pytest.raises(FoundryError, match="regions of 2"):
        compose_captions([region(), region(sample_id="t")])
