from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.language.english import (
    ENGLISH_DIGEST,
    MAX_CHARACTERS,
    english_digest,
    load_english,
    packaged_english,
)
from evaluation.language.noun_phrases import PhraseFinder
from evaluation.language.nouns import NounCounter
from evaluation.tables.perception import NOUNS, PHRASES
from training.digests import folder_digest
from training.errors import FoundryError


@pytest.fixture(scope="module")
def counter() -> NounCounter:
    return NounCounter()


@pytest.fixture(scope="module")
def finder() -> PhraseFinder:
    return PhraseFinder()


def texts(*values: str) -> pa.Table:
    return pa.table(
        {"text_id": [str(index) for index in range(len(values))], "text": pa.array(values, pa.string())}
    )


def captions(*values: str) -> pa.Table:
    return texts(*values).rename_columns(["sample_id", "caption"])


def phrases(finder: PhraseFinder, caption: str) -> list[tuple[str, str]]:
    return [(row["phrase"], row["head"]) for row in finder(captions(caption)).to_pylist()]


def test_nouns_are_lemmas_in_order_with_repeats(counter: NounCounter) -> None:
    found = counter(texts("Two dogs chase a dog, happily.", "", "It runs!"))
    assert found.schema.equals(NOUNS, check_metadata=True)
    assert found["nouns"].to_pylist() == [["dog", "dog"], [], []]
    assert found["num_words"].to_pylist() == [6, 0, 2]
    assert found["text_id"].to_pylist() == ["0", "1", "2"]
    assert set(found["model_digest"].to_pylist()) == {english_digest("nouns")}
    assert counter(texts()).num_rows == 0


def test_phrases_stand_in_the_caption_with_their_heads(finder: PhraseFinder) -> None:
    caption = 'A small dog sits on two old chairs, with "the word STOP" behind it.'
    table = finder(captions(caption, ""))
    assert table.schema.equals(PHRASES, check_metadata=True)
    rows = table.to_pylist()
    assert [(row["phrase"], row["head"]) for row in rows[:2]] == [
        ("A small dog", "dog"),
        ("two old chairs", "chair"),
    ]
    assert rows[2]["phrase"] == "the word STOP"
    assert [caption[row["start"] : row["end"]] for row in rows] == [row["phrase"] for row in rows]
    assert "it" not in [row["phrase"] for row in rows]


def test_the_word_and_what_is_written_are_one_phrase(finder: PhraseFinder) -> None:
    found = phrases(finder, "a yellow cat at the top on a teal background with the word SALE")
    assert found[-1] == ("the word SALE", "word")
    assert ("a yellow cat", "cat") in found
    assert phrases(finder, "the words of a song") == [("the words", "word"), ("a song", "song")]


def test_lists_without_verbs_are_taken_apart(finder: PhraseFinder) -> None:
    assert phrases(finder, "sun, car, a small tree") == [
        ("sun", "sun"),
        ("car", "car"),
        ("a small tree", "tree"),
    ]
    assert phrases(finder, "a big, red apple") == [("a big, red apple", "apple")]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=60), min_size=1, max_size=3))
def test_any_text_is_answered_and_batches_do_not_matter(
    counter: NounCounter, finder: PhraseFinder, values: list[str]
) -> None:
    usable = [value.encode("utf-8", "ignore").decode() for value in values]
    together = counter(texts(*usable))
    apart = [counter(texts(value))["nouns"][0].as_py() for value in usable]
    assert together["nouns"].to_pylist() == apart
    for row in finder(captions(*usable)).to_pylist():
        caption = usable[int(row["sample_id"])]
        assert caption[row["start"] : row["end"]] == row["phrase"]
        assert row["head"]
        assert row["phrase"].strip() == row["phrase"] != ""


def test_long_texts_are_cut(counter: NounCounter) -> None:
    cut, whole = (counter(texts("dog " * count))["num_words"][0].as_py() for count in (100_000, 3))
    assert (cut, whole) == (MAX_CHARACTERS // 4, 3)


def test_identity_is_that_of_the_files_and_needs_no_model(tmp_path: Path) -> None:
    assert folder_digest(packaged_english()) == ENGLISH_DIGEST
    assert english_digest("nouns") != english_digest("noun phrases")
    code = (
        "import sys, evaluation.language.english as e, evaluation.language.nouns, evaluation.language.noun_phrases;"
        "e.english_digest('nouns'); print(sorted({'spacy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(FoundryError, match="digest of its files is .* pip install"):
        load_english((), tmp_path)
