from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.perception.embedded.caption_worker import CaptionWorker, load_tokenizer
from evaluation.perception.embedded.captioner import MAX_TOKENS, TEMPLATES, compose_captions, count_words
from evaluation.perception.embedded.wording import (
    noun_phrase,
    place_words,
    plural,
    relation,
    size_words,
    with_article,
)
from evaluation.tables.perception import CAPTIONS
from tests.evaluation.perception.makers import region, regions_column
from training.errors import FoundryError


def texts(*regions: dict, k: int = 5, seed: int = 0) -> dict[str, str]:
    return {caption.template: caption.text for caption in compose_captions("s", regions, k, seed)}


def test_one_object_in_five_densities() -> None:
    apple = region("apple", 0.8, texture="smooth", shape="round", second_color="green")
    assert texts(apple) == {
        "full": "a red apple at the top left on a blue background",
        "short": "a red apple on a blue background",
        "attributes": "a round smooth red and green apple on a blue background",
        "list": "a red apple at the top left on a blue background",
        "plain": "an apple",
    }
    assert texts({**apple, "box_xyxy_norm": [0, 0, 0.9, 0.9]})["list"].startswith("a large red apple")
    assert {caption.score for caption in compose_captions("s", [apple], 5)} == {0.8}


def test_objects_are_related_truly_in_whatever_order_they_are_told() -> None:
    left = region("apple", box=(0.0, 0.4, 0.2, 0.6))
    right = region("tree", box=(0.7, 0.4, 0.9, 0.6), color="green")
    told = {texts(left, right, k=1, seed=seed)["full"] for seed in range(12)}
    assert told == {
        "a red apple to the left of a green tree on a blue background",
        "a green tree to the right of a red apple on a blue background",
    }
    low = region("sun", box=(0.7, 0.8, 0.9, 1.0), color="orange")
    assert {texts(left, right, low, k=1, seed=seed)["full"] for seed in range(40)} >= {
        "a red apple to the left of a green tree, an orange sun below the tree on a blue background",
    }


def test_words_unnamed_objects_and_unknown_backgrounds() -> None:
    word = region(text="STOP", text_score=0.9, box=(0, 0, 1, 0.2))
    assert (
        texts(region("sun"), word)["full"]
        == "a red sun at the top left on a blue background with the word STOP"
    )
    sign = compose_captions("s", [word], k=2)
    assert [(caption.text, caption.score) for caption in sign] == [
        ("a sign on a blue background with the word STOP", 0.9)
    ]
    photo = region("dog", box=(0, 0, 1, 1), background_kind="unknown", background_color="")
    assert texts(photo, k=1)["full"] == "a red dog in the middle"


def test_scores_are_those_of_what_is_said() -> None:
    word = region(text="STOP", text_score=0.6, box=(0, 0, 1, 0.2))
    scores = {
        caption.template: caption.score for caption in compose_captions("s", [region("sun", 0.8), word], 5)
    }
    assert scores == pytest.approx(dict.fromkeys(TEMPLATES, 0.7) | {"plain": 0.8})
    mixed = compose_captions("s", [region(), region("sun", 0.9)], k=5)
    assert [caption.score for caption in mixed] == pytest.approx([0.9] * 5)
    assert "a red object" in mixed[1].text
    assert mixed[4].text == "a sun"
    assert compose_captions("s", [region()], k=1)[0].score == 0.0


def test_nothing_to_say_says_nothing() -> None:
    assert compose_captions("s", [region(box=(0, 0, 1, 1), area_fraction=1.0)]) == []


def test_equal_objects_are_counted_and_colors_not_said_twice() -> None:
    hearts = [
        region("blue heart", color="blue"),
        region("blue heart", color="blue", box=(0.5, 0.5, 0.9, 0.9)),
    ]
    assert texts(*hearts)["short"] == "two blue hearts on a blue background"
    assert noun_phrase(region("blue heart")) == "blue heart"
    nouns = ["butterfly", "fish", "cactus", "box", "boy", "soccer ball", "y"]
    assert [plural(noun) for noun in nouns] == [
        "butterflies", "fish", "cactuses", "boxes", "boys", "soccer balls", "ys",
    ]  # fmt: skip


_CENTER = st.floats(0, 0.9)


@given(_CENTER, _CENTER, _CENTER, _CENTER)
def test_relations_are_antisymmetric(x1: float, y1: float, x2: float, y2: float) -> None:
    opposite = {"to the left of": "to the right of", "above": "below"}
    opposite |= {back: forth for forth, back in opposite.items()}
    forth, back = relation((x1, y1), (x2, y2)), relation((x2, y2), (x1, y1))
    assert back == opposite.get(forth, "next to")
    if forth == "to the left of":
        assert x1 < x2


@pytest.mark.parametrize(
    ("box", "words", "size"),
    [
        ((0.4, 0.4, 0.6, 0.6), "in the middle", "small"),
        ((0.2, 0.0, 0.8, 0.2), "at the top", "of middle size"),
        ((0.8, 0.4, 1.0, 0.6), "on the right", "small"),
        ((0.0, 0.5, 0.5, 1.0), "at the bottom left", "large"),
    ],
)
def test_places_and_sizes(box: tuple[float, ...], words: str, size: str) -> None:
    assert (place_words(box), size_words(box)) == (words, size)


def test_articles_and_repeatability() -> None:
    assert (with_article("orange sun"), with_article("red sun")) == ("an orange sun", "a red sun")
    rows = [region("apple"), region("sun", box=(0.5, 0.5, 0.9, 0.9)), region("cat", box=(0.5, 0, 0.9, 0.3))]
    assert compose_captions("s", rows, 2, 5) == compose_captions("s", rows, 2, 5)
    told = {compose_captions(str(sample), rows, 1)[0].text for sample in range(30)}
    assert len(told) == 6  # all orders


_BOX = st.tuples(_CENTER, _CENTER).map(lambda corner: (*corner, corner[0] + 0.1, corner[1] + 0.1))
_REGIONS = st.lists(
    st.builds(
        region,
        st.sampled_from(["apple", "soccer ball", "eggplant", ""]),
        st.sampled_from([0.25, 0.5, 1.0]),
        _BOX,
        text=st.sampled_from(["", "", "CAFE"]),
        text_score=st.just(0.75),
        background_kind=st.sampled_from(["plain", "two-tone", "checkered"]),
        background_color=st.sampled_from(["blue", "purple and orange"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(_REGIONS, st.integers(0, 5))
def test_captions_say_only_what_is_there_and_stay_short(rows: list, seed: int) -> None:
    tokenizer = load_tokenizer()
    count = lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)  # noqa: E731
    names = {row["names"][0] for row in rows if row["names"] and not row["text"]}
    for caption in compose_captions("s", rows, 5, seed, count):
        assert 0 <= caption.score <= 1
        for name in ("apple", "soccer ball", "eggplant"):
            assert name in names or name not in caption.text
        if len(rows) <= 3:
            assert count(caption.text) <= MAX_TOKENS
            assert count_words(caption.text) <= count(caption.text)


def test_the_worker_numbers_captions_and_counts_tokens() -> None:
    digest = "e" * 64
    batch = pa.table(
        {
            "sample_id": ["a", "b"],
            "regions": regions_column([region("apple")], [region(box=(0, 0, 1, 1), area_fraction=1.0)]),
        }
    )
    rows = CaptionWorker(3, 7, digest)(batch)
    assert rows.schema.equals(CAPTIONS, check_metadata=True)
    assert rows["sample_id"].to_pylist() == ["a"] * 3
    assert rows["caption_index"].to_pylist() == [1, 2, 3]
    first = rows.to_pylist()[0]
    assert first["num_tokens"] == len(first["caption"].split())
    assert (first["prompt"], first["decoding"], first["seed"]) == ("full", '{"k":3}', 7)
    split = [CaptionWorker(3, 7, digest)(batch.slice(index, 1)) for index in range(2)]
    assert pa.concat_tables(split) == rows
    assert rows["caption"].to_pylist() == [
        c.text for c in itertools.islice(compose_captions("a", [region("apple")], 3, 7), 3)
    ]


def test_bad_requests_are_refused() -> None:
    with pytest.raises(FoundryError, match="k is 6, allowed are 1 to 5"):
        compose_captions("s", [region()], k=6)
    with pytest.raises(FoundryError, match="sample s: no region"):
        compose_captions("s", [])
