from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.entities.phrases import select_phrases
from assets.graph.schemas import ENTITY_PHRASES
from evaluation.tables.perception import PHRASES
from training.errors import FoundryError


def phrases(*named: tuple[str, str], sample_id: str = "s") -> pa.Table:
    """A phrases table of (phrase, head)."""
    rows = [
        {
            "sample_id": sample_id, "phrase_index": index, "phrase": phrase, "head": head, "start": -1, "end": -1,
            "model": "m", "model_digest": "d", "function_version": 1,
        }
        for index, (phrase, head) in enumerate(named)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PHRASES)


CAPTIONS = pa.table({"sample_id": ["s", "t"], "caption": ["what it says", "other"]})


def reasons(*named: tuple[str, str]) -> list[str]:
    return select_phrases(phrases(*named), CAPTIONS)["dropped_because"].to_pylist()


def test_what_is_no_entity_is_dropped_with_a_reason() -> None:
    assert reasons(
        ("a green frog", "frog"),
        ("a blue background", "background"),
        ("the top left", "left"),
        ("HD wallpaper", "wallpaper"),
        ("the word STOP", "word"),
        ("the text", "text"),
        ("the", "the"),
        ("a two-tone teal", "teal"),
        ("an orange", "orange"),
        ("a very old and very very very big tree", "tree"),
    ) == [
        "",
        "background",
        "background",
        "background",
        "",
        "text",
        "background",
        "background",
        "",
        "too_long",
    ]


def test_mentions_again_are_dropped_and_other_things_of_one_kind_are_not() -> None:
    assert reasons(("a green frog", "frog"), ("the frog", "frog"), ("the red frog", "frog")) == [
        "", "duplicate", "",
    ]  # fmt: skip
    assert reasons(("a green frog", "frog"), ("A GREEN frog!", "frog"), ("a frog", "frog")) == [
        "", "duplicate", "",
    ]  # fmt: skip
    both = pa.concat_tables([phrases(("a cat", "cat")), phrases(("the cat", "cat"), sample_id="t")])
    assert select_phrases(both, CAPTIONS)["keep"].to_pylist() == [True, True]


def test_rows_come_back_in_order_with_their_caption() -> None:
    table = phrases(("a cat", "cat"), ("the sky", "sky"))
    found = select_phrases(table.take(pa.array([1, 0])), CAPTIONS)
    assert found.schema.equals(ENTITY_PHRASES, check_metadata=True)
    assert found.select(PHRASES.names) == table
    assert set(found["caption"].to_pylist()) == {"what it says"}
    assert select_phrases(phrases(), CAPTIONS).num_rows == 0


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=5)), max_size=5))
def test_any_phrase_gets_an_answer_and_twice_the_same_is_once(named: list[tuple[str, str]]) -> None:
    once, twice = reasons(*named), reasons(*named, *named)
    assert twice[: len(named)] == once
    assert "" not in twice[len(named) :]


def test_bad_requests_are_named() -> None:
    with pytest.raises(FoundryError, match="max_words is 0"):
        select_phrases(phrases(), CAPTIONS, 0)
    with pytest.raises(FoundryError, match="sample x: phrases but no caption"):
        select_phrases(phrases(("a cat", "cat"), sample_id="x"), CAPTIONS)
    with pytest.raises(FoundryError, match="captions table lacks the columns caption"):
        select_phrases(phrases(), CAPTIONS.drop_columns("caption"))
