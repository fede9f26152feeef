from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.perception.embedded.detect_worker import DetectWorker
from evaluation.perception.embedded.grounding import GroundedBox, ground, says
from evaluation.tables.perception import BOXES
from tests.evaluation.perception.makers import embedded, region, regions_column, worker_of

LEFT, RIGHT, LOW = (0.0, 0.0, 0.3, 0.3), (0.6, 0.0, 0.9, 0.3), (0.0, 0.6, 0.3, 0.9)
LIKE = {frozenset(("fruit", "apple")): 0.6, frozenset(("cat", "dog")): 0.5}


def like(first: str, second: str) -> float:
    return LIKE.get(frozenset((first, second)), 0.0)


def grounded(phrases: list[str], *regions: dict[str, Any]) -> list[GroundedBox]:
    return ground(phrases, regions, like, min_similarity=0.55, min_score=0.1)


def summary(boxes: list[GroundedBox]) -> list[tuple[int, str, float]]:
    return [(box.phrase_index, box.phrase, round(box.name_score, 4)) for box in boxes]


def test_phrases_find_their_regions_and_nothing_found_is_lost() -> None:
    boxes = grounded(
        ["the sky", "a red apple", "a dog"],
        region("cat", 0.9, LOW, color="yellow"), region("apple", 0.8, LEFT), region(box=RIGHT),
    )  # fmt: skip
    assert summary(boxes) == [(-1, "a yellow cat", 0.9), (1, "a red apple", 0.8), (-1, "a red object", 0.35)]
    assert boxes[1].box_xyxy_norm == LEFT
    assert {box.score for box in boxes} == {1.0}


def test_broader_names_count_as_far_as_they_mean_the_same() -> None:
    assert summary(grounded(["some fruit"], region("apple", 0.5))) == [(0, "some fruit", 0.3)]
    second = region("cat", names=["cat", "dog"], name_scores=[0.6, 0.3])
    assert summary(grounded(["a dog"], second)) == [(0, "a dog", 0.3)]


def test_colors_decide_between_things_of_one_kind() -> None:
    boxes = grounded(
        ["a green apple", "a red apple"],
        region("apple", 0.9, LEFT, color="red"), region("apple", 0.9, RIGHT, color="green"),
    )  # fmt: skip
    assert {(box.phrase, box.box_xyxy_norm) for box in boxes} == {
        ("a red apple", LEFT),
        ("a green apple", RIGHT),
    }
    assert summary(grounded(["a blue apple"], region("apple", 0.8))) == [(0, "a blue apple", 0.4)]
    assert summary(grounded(["a white apple"], region("apple", 0.8, second_color="white")))[0][2] == 0.8
    assert summary(grounded(["a blue heart"], region("blue heart", 0.8, color="gray")))[0][2] == 0.8


def test_counted_phrases_take_as_many_regions() -> None:
    three = [region("apple", 0.9, box) for box in (LEFT, RIGHT, LOW)]
    assert {box.phrase for box in grounded(["two apples"], *three)} == {"a red apple"}
    assert [box.phrase_index for box in grounded(["two apples"], *three)].count(0) == 2


def test_written_words_ground_what_quotes_them() -> None:
    word = region(text="STOP", text_score=0.75)
    assert summary(grounded(["the word STOP"], word)) == [(0, 'the word "STOP"', 0.75)]
    assert summary(grounded(["a dog"], word)) == [(-1, 'the word "STOP"', 0.75)]


def test_a_photograph_is_one_object_as_far_as_it_has_a_name() -> None:
    whole = (0.0, 0.0, 1.0, 1.0)
    assert grounded(["a dog"], region(box=whole, background_kind="unknown")) == []
    photo = region("dog", 0.4, whole, background_kind="unknown")
    assert grounded([], photo)[0].score == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("phrase", "name", "expected"),
    [
        ("red apple", "apple", True), ("two red apples", "apple", True), ("butterflies", "butterfly", True),
        ("a soccer ball", "soccer ball", True), ("a ball", "soccer ball", False), ("apple tree", "apple", False),
        ("pineapple", "apple", False), ("", "apple", False), ("apple", "", False),
    ],
)  # fmt: skip
def test_saying_a_name(phrase: str, name: str, expected: bool) -> None:
    assert says(phrase.split(), name) is expected


_PHRASES = st.lists(
    st.sampled_from(["a red apple", "two cats", "the dog", "fruit", "", "!", "in the sky"]), max_size=5
)
_FOUND = st.lists(
    st.builds(
        region, st.sampled_from(["apple", "cat", "dog", ""]), st.floats(0, 1), st.sampled_from([LEFT, RIGHT, LOW]),
        color=st.sampled_from(["red", "green"]), text=st.sampled_from(["", "", "red"]), text_score=st.floats(0, 1),
    ),
    max_size=5,
)  # fmt: skip


@given(_PHRASES, _FOUND)
def test_every_region_once_each_phrase_at_most_as_often_as_it_counts(phrases: list[str], found: list) -> None:
    boxes = grounded(phrases, *found)
    assert sorted(box.box_xyxy_norm for box in boxes) == sorted(tuple(row["box_xyxy_norm"]) for row in found)
    scores = [box.name_score for box in boxes]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    for index, phrase in enumerate(phrases):
        assert sum(box.phrase_index == index for box in boxes) <= (2 if phrase.startswith("two") else 1)


def test_the_worker_knows_kinds_by_sentence_vectors() -> None:
    role = embedded("detector")
    worker = worker_of(role)
    assert isinstance(worker, DetectWorker)
    batch = pa.table(
        {
            "sample_id": ["a", "b", "c"],
            "phrases": [["a vehicle", "a green tree"], [], ["a house"]],
            "regions": regions_column(
                [region("car", 0.9, LEFT), region("tree", 0.8, RIGHT, color="green")],
                [region("cat")],
                [region("dog", 0.9)],
            ),
        }
    )
    boxes = worker(batch)
    assert boxes.schema.equals(BOXES, check_metadata=True)
    rows = [
        (row["sample_id"], row["box_index"], row["phrase_index"], row["phrase"]) for row in boxes.to_pylist()
    ]
    assert rows == [
        ("a", 0, 1, "a green tree"), ("a", 1, 0, "a vehicle"), ("b", 0, -1, "a red cat"), ("c", 0, -1, "a red dog"),
    ]  # fmt: skip
    assert 0.5 < boxes["name_score"][1].as_py() < 0.9
    assert set(boxes["model_digest"].to_pylist()) == {role.digest}
    assert pa.concat_tables([worker(batch.slice(index, 1)) for index in range(3)]) == boxes
