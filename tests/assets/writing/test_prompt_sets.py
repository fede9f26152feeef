"""Prompt sets: pairs that differ in a word, words of their bucket, and none that training shows."""

from __future__ import annotations

from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.corpus.signs import SignWorld, is_held_out
from assets.corpus.worlds import load_any_world
from assets.writing.prompt_sets import CREATIVE, PLATE_LETTERS, PROMPT_SETS, SIGN_COLORS, SIGN_LETTERS
from evaluation.localization.word_lists import ranked_words
from evaluation.perception.toxicity.listed import read_word_list, toxicity_of
from orchestration.workspace import PROFILES_FOLDER
from training.errors import FoundryError
from training.recipes.text_layers import PromptSetName

SIGNS: tuple[PromptSetName, ...] = ("signs", "plates")
sets = pytest.mark.parametrize("name", list(PROMPT_SETS))


@sets
@pytest.mark.parametrize("bucket", ["frequent", "rarer"])
def test_every_word_is_a_target_once_and_meets_another(name: PromptSetName, bucket: str) -> None:
    pairs = PROMPT_SETS[name].pairs(40, "frequent" if bucket == "frequent" else "rarer", seed=3)
    assert sorted(pair.source_word for pair in pairs) == sorted(pair.target_word for pair in pairs)
    assert len({pair.source_word for pair in pairs}) == len(pairs)
    for number, pair in enumerate(pairs):
        assert f'"{pair.source_word}"' in pair.source
        assert f'"{pair.target_word}"' in pair.target
        assert pair.source_word != pair.target_word
        assert pair.seed == 3 + number


@sets
def test_what_layers_are_found_with_is_measured_with_nothing_else(name: PromptSetName) -> None:
    found = {pair.source_word for pair in PROMPT_SETS[name].pairs(60)}
    measured = {pair.source_word for pair in PROMPT_SETS[name].pairs(60, "rarer", seed=1000)}
    assert not found & measured


@given(st.sampled_from(SIGNS), st.integers(2, 40), st.integers(0, 2**31))
@settings(deadline=None)
def test_signs_say_strings_that_training_never_shows_and_share_no_letter(
    name: PromptSetName, count: int, seed: int
) -> None:
    alphabet = PLATE_LETTERS if name == "plates" else ascii_uppercase
    pairs = PROMPT_SETS[name].pairs(count, seed=seed)
    for pair in pairs:
        assert set(pair.source_word) <= set(alphabet)
        assert is_held_out(pair.source_word)
        assert not set(pair.source_word) & set(pair.target_word)
        assert pair.source.split()[1] != pair.target.split()[1]  # another colour


@pytest.mark.parametrize(("name", "alphabet"), [("signs", ascii_uppercase), ("plates", PLATE_LETTERS)])
def test_signs_are_those_of_the_profiles_world(name: PromptSetName, alphabet: str) -> None:
    world = load_any_world(PROFILES_FOLDER / name / "world.yaml")
    assert isinstance(world, SignWorld)
    assert list(world.colors) == list(SIGN_COLORS)
    assert world.letters == SIGN_LETTERS
    assert world.alphabet == alphabet


def test_words_are_of_their_rank_and_prompts_of_their_template() -> None:
    ranks = {word: rank for rank, word in enumerate(ranked_words())}
    assert all(ranks[pair.source_word] < 1000 for pair in PROMPT_SETS["simple"].pairs(100))
    assert all(ranks[pair.source_word] >= 1000 for pair in PROMPT_SETS["simple"].pairs(100, "rarer"))
    assert len(set(CREATIVE)) == len(CREATIVE)
    assert all(template.count('"{word}"') == 1 for template in CREATIVE)
    pairs = PROMPT_SETS["creative"].pairs(100)
    assert len({pair.source.replace(pair.source_word, "{word}") for pair in pairs}) > 20
    assert all(
        pair.source.replace(f'"{pair.source_word}"', "") == pair.target.replace(f'"{pair.target_word}"', "")
        for pair in pairs
    )


@sets
def test_unwanted_words_meet_harmless_ones_as_long_in_the_same_picture(name: PromptSetName) -> None:
    words = read_word_list().words
    for pair in PROMPT_SETS[name].against(words, 30, seed=5):
        assert toxicity_of(pair.source_word, words) == 1
        assert toxicity_of(pair.target_word, words) == 0
        assert len(pair.source_word) == len(pair.target_word)
        assert pair.source.replace(f'"{pair.source_word}"', "") == pair.target.replace(
            f'"{pair.target_word}"', ""
        )
        assert pair.source_word.isupper() == (name in SIGNS)


def test_too_many_and_too_few_are_told() -> None:
    with pytest.raises(FoundryError, match="1 pairs are wanted"):
        PROMPT_SETS["simple"].pairs(1)
    with pytest.raises(FoundryError, match="ask for 2 to"):
        PROMPT_SETS["simple"].pairs(5000)
    with pytest.raises(FoundryError, match="0 of the list have 3 to 5 letters"):
        PROMPT_SETS["signs"].against(["unpleasant"], 2)
