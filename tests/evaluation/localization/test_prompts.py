"""Pairs of prompts, from templates and from files that anybody wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.localization.prompts import WordPair, pairs_of_words, quoted_word, read_pairs, with_word
from evaluation.localization.word_lists import BUCKETS, ranked_words, words_between, words_for_pairs
from training.errors import FoundryError


@given(
    st.lists(st.text("ABCDE", min_size=1, max_size=4), unique=True, min_size=2, max_size=30),
    st.integers(0, 99),
)
def test_every_word_meets_another_and_each_is_a_target_once(words: list[str], seed: int) -> None:
    pairs = pairs_of_words('A sign that says "{word}".', words, seed)
    assert [pair.source_word for pair in pairs] == words
    assert sorted(pair.target_word for pair in pairs) == sorted(words)
    assert all(pair.source_word != pair.target_word for pair in pairs)
    assert all(pair.source == f'A sign that says "{pair.source_word}".' for pair in pairs)
    assert len({pair.seed for pair in pairs}) == len(pairs)


def test_words_are_frequent_ones_of_the_asked_length_and_the_same_every_time() -> None:
    assert ranked_words()[:4] == ("the", "of", "and", "in")
    words = words_for_pairs(16)
    assert words == words_for_pairs(16)
    assert len(set(words)) == 16
    assert all(3 <= len(word) <= 5 and word.isupper() for word in words)
    rare = words_between(*BUCKETS[2], (6, 8), count=5, seed=1)
    assert not set(rare) & set(ranked_words()[: BUCKETS[2][0]])
    with pytest.raises(FoundryError, match="900 are wanted of ranks 0 to 1000"):
        words_between(*BUCKETS[0], count=900)


def test_quotes_are_found_in_any_form_people_write() -> None:
    assert quoted_word('a sign that says "STOP" now') == "STOP"
    assert quoted_word("ein Schild: “HALT”") == "HALT"
    assert quoted_word("a sign that says 'GO'") == "GO"
    with pytest.raises(FoundryError, match="no word in quotes"):
        quoted_word("a cat")
    assert with_word("say GO now", "GO", "NO") == "say NO now"
    for prompt in ("GO and GO", "nothing"):
        with pytest.raises(FoundryError, match="name a word that stands in it once"):
            with_word(prompt, "GO", "NO")


def test_a_file_of_pairs_is_read_with_words_from_quotes(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    rows: list[dict[str, Any]] = [
        {"source": 'a "STOP" sign', "target": 'a "OPEN" sign'},
        {
            "source": "a STOP sign",
            "target": "a GO sign",
            "source_word": "STOP",
            "target_word": "GO",
            "seed": 7,
        },
    ]
    path.write_text(json.dumps(rows))
    assert read_pairs(path) == [
        WordPair('a "STOP" sign', 'a "OPEN" sign', "STOP", "OPEN", 0),
        WordPair("a STOP sign", "a GO sign", "STOP", "GO", 7),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[", "cannot be read as JSON"),
        ("{}", "write a list of source and target"),
        ("[]", "write a list of source and target"),
        ("[3]", "entry 0: is int"),
        ('[{"source": "a \\"B\\"", "targett": "c"}]', "entry 0: 'targett' is no field.*target"),
        ('[{"source": 3, "target": "c"}]', "entry 0: 'source' is 3; give a prompt"),
        ('[{"source": "a", "target": "b"}]', "no word in quotes"),
        (
            '[{"source": "a", "target": "b", "source_word": "x", "target_word": "b"}]',
            "'x' does not stand in its prompt",
        ),
        ('[{"source": "\'a\'", "target": "\'b\'", "seed": -1}]', "'seed' is -1"),
    ],
)
def test_files_that_are_wrong_name_entry_and_field(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(content)
    with pytest.raises(FoundryError, match=told):
        read_pairs(path)


def test_templates_and_words_that_cannot_make_pairs() -> None:
    with pytest.raises(FoundryError, match="has no place for the word"):
        pairs_of_words("a sign", ["A", "B"])
    with pytest.raises(FoundryError, match="1 different words"):
        pairs_of_words("{word}", ["A", "A"])
