"""Pairs of prompts that differ in what a picture is to say: from templates, or from a file.

A pair is drawn from one noise. The source's word is to be replaced by the target's; both stand in quotes, as people ask for
text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import FoundryError
from training.recipes.validation import nearest

QUOTES = (('"', '"'), ("“", "”"), ("'", "'"))
FIELDS = ("source", "target", "source_word", "target_word", "seed")


@dataclass(frozen=True)
class WordPair:
    """Two prompts from one noise, and the word that each asks for."""

    source: str
    target: str
    source_word: str
    target_word: str
    seed: int


def pairs_of_words(template: str, words: Sequence[str], seed: int = 0) -> list[WordPair]:
    """A pair a word, the target's word being another's: no word meets itself, each is a target once.

    ``template`` holds ``{word}``. Raises FoundryError for a template without it, and fewer than two different words.
    """
    if "{word}" not in template:
        raise FoundryError(
            f"template '{template}': has no place for the word; write {{word}} where it stands"
        )
    distinct = list(dict.fromkeys(words))
    if len(distinct) < 2:
        raise FoundryError(
            f"text pairs: {len(distinct)} different words; at least 2 are needed, to exchange one for another"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    others = dict(
        zip(order.tolist(), np.roll(order, 1).tolist(), strict=True)
    )  # one cycle: nothing stays in place
    return [
        WordPair(
            template.format(word=word),
            template.format(word=distinct[others[number]]),
            word,
            distinct[others[number]],
            seed + number,
        )
        for number, word in enumerate(distinct)
    ]


def quoted_word(prompt: str) -> str:
    """What stands in a prompt's first pair of quotes. Raises FoundryError where there is none."""
    for opening, closing in QUOTES:
        start = prompt.find(opening)
        stop = prompt.find(closing, start + 1)
        if start >= 0 and stop > start + 1:
            return prompt[start + 1 : stop]
    raise FoundryError(
        f"prompt '{prompt}': has no word in quotes; write what the picture is to say as \"WORD\""
    )


def with_word(prompt: str, word: str, other: str) -> str:
    """The prompt with another word. Raises FoundryError where it does not have the first one exactly once."""
    if prompt.count(word) != 1:
        raise FoundryError(
            f"prompt '{prompt}': holds '{word}' {prompt.count(word)} times; name a word that stands in it once"
        )
    return prompt.replace(word, other)


def read_pairs(path: Path) -> list[WordPair]:
    """Pairs of a JSON list: ``source`` and ``target`` prompts each; words default to what stands in quotes, seeds count on.

    Raises FoundryError naming file, entry and field.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(
            f"{path}: cannot be read as JSON ({error}); write a list of source and target prompts"
        ) from error
    if not isinstance(rows, list) or not rows:
        raise FoundryError(
            f"{path}: holds {type(rows).__name__} of nothing to compare; write a list of source and target prompts"
        )
    return [_pair(row, number, path) for number, row in enumerate(rows)]


def _pair(row: object, number: int, path: Path) -> WordPair:
    where = f"{path}: entry {number}"
    if not isinstance(row, dict):
        raise FoundryError(f"{where}: is {type(row).__name__}; write an object with source and target")
    unknown = sorted(set(row) - set(FIELDS))
    if unknown:
        raise FoundryError(f"{where}: '{unknown[0]}' is no field; {nearest(unknown[0], list(FIELDS))}")
    for name in ("source", "target"):
        if not isinstance(row.get(name), str):
            raise FoundryError(f"{where}: '{name}' is {row.get(name)!r}; give a prompt")
    seed = row.get("seed", number)
    if not isinstance(seed, int) or seed < 0:
        raise FoundryError(f"{where}: 'seed' is {seed!r}; give a whole number from 0")
    source, target = row["source"], row["target"]
    own, other = row.get("source_word") or quoted_word(source), row.get("target_word") or quoted_word(target)
    if own not in source or other not in target:
        raise FoundryError(
            f"{where}: '{own if own not in source else other}' does not stand in its prompt; name a word that does"
        )
    return WordPair(source, target, own, other, seed)
