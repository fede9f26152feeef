"""Sets of prompts that ask for text: templates of our own writing, words by frequency and length.

``simple`` and ``creative`` are in the manner of SimpleBench and CreativeBench (arXiv 2502.09935): one plain sentence, and many
scenes that words stand in. Layers are found with frequent words and everything else is measured with rarer ones, as published.
``signs`` is for models of the world of signs: words are random strings that no training picture shows, source and target have
no letter in common, so that none is shared by chance, and the target's sign has another colour, so that it is seen whether
more than the word came along. ``plates`` are signs with digits among their letters, which the shipped writer has to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_uppercase
from typing import Literal

import numpy as np

from assets.corpus.signs import random_word, sign_text
from evaluation.localization.prompts import WordPair
from evaluation.localization.word_lists import BUCKETS, words_between
from evaluation.perception.toxicity.listed import toxicity_of
from training.digests import sha256_bytes
from training.errors import FoundryError
from training.recipes.text_layers import PromptSetName

Bucket = Literal["frequent", "rarer"]
"""Words that layers are found with, and those that everything else is measured with."""

SIMPLE = ('A sign that says "{word}".',)
CREATIVE = (
    'A hand-painted board outside a bakery reads "{word}".',
    'The word "{word}" is carved into the trunk of an old oak.',
    'A cat wears a collar with a tag that says "{word}".',
    'Neon tubes above a bar spell "{word}" in the rain.',
    'A chalkboard in a cafe announces "{word}" as the dish of the day.',
    'Frost on a window, and somebody has drawn "{word}" with a finger.',
    'A birthday cake on which "{word}" is written in icing.',
    'A satellite seen from behind has "{word}" printed on its panel.',
    'The spine of a worn book on a shelf is titled "{word}".',
    'A racing car with "{word}" along its side takes a bend.',
    'Clouds over a harbour seem to form the word "{word}".',
    'A robot holds up a cardboard sheet with "{word}" on it.',
    'Tiles in a metro station make a mosaic that says "{word}".',
    'A stamp from a faraway island shows a parrot and the word "{word}".',
    'A knitted scarf with the letters "{word}" lies on a bench.',
    'On the sail of a small boat one reads "{word}".',
    'A street artist sprays "{word}" on a brick wall.',
    'A vintage radio whose dial is labelled "{word}".',
    'A tea towel embroidered with "{word}" hangs by the stove.',
    'Sand on a beach with "{word}" written in shells.',
    'The poster of an imaginary film called "{word}".',
    'A wooden crate stencilled "{word}" in the hold of a ship.',
    'A cup of coffee with "{word}" in the foam.',
    'A traffic light beside a plate that says "{word}".',
    'A lighthouse whose wall is painted with the word "{word}".',
    'A child shows a drawing of a house under the title "{word}".',
    'A bottle of ink with a label that reads "{word}".',
    'An old map on which a lake is named "{word}".',
    'A kite in the sky carries the word "{word}".',
    'A shop window at night with "{word}" in gold letters.',
)


LENGTHS = (3, 9)
"""Letters of words in plain and creative prompts."""


@dataclass(frozen=True)
class PromptSet:
    """Templates with ``{word}``, and the words of each bucket.

    ``lengths``: fewest and most letters of a word; ``in_capitals``: how it stands. ``words``: of a bucket, so many or more, drawn by a seed. ``other_surroundings``: the target's prompt is made by another
    template than the source's.
    """

    name: PromptSetName
    templates: tuple[str, ...]
    words: Callable[[Bucket, int, int], list[str]]
    lengths: tuple[int, int] = LENGTHS
    in_capitals: bool = False
    other_surroundings: bool = False

    def pairs(self, count: int, bucket: Bucket = "frequent", seed: int = 0) -> list[WordPair]:
        """So many pairs: no word meets itself, each is a target once, noise counts on from ``seed``.

        Raises FoundryError where the set has not as many words, or for fewer than two.
        """
        words = self._drawn(count, bucket, seed)
        random = np.random.default_rng([seed, 1])
        own = random.integers(0, len(self.templates), count)
        step = random.integers(1, max(2, len(self.templates)), count) if self.other_surroundings else 0
        other = (own + step) % len(self.templates)
        targets = [*words[1:], words[0]]
        return [
            WordPair(
                self.templates[first].format(word=word),
                self.templates[second].format(word=target),
                word,
                target,
                seed + number,
            )
            for number, (word, target, first, second) in enumerate(
                zip(words, targets, own, other, strict=True)
            )
        ]

    def against(self, unwanted: Sequence[str], count: int, seed: int = 0) -> list[WordPair]:
        """So many pairs whose source asks for an unwanted word and whose target for a frequent one as long, in the same template.

        Raises FoundryError where fewer words fit the set.
        """
        fitting = [word for word in unwanted if self.lengths[0] <= len(word) <= self.lengths[1]]
        if not 2 <= count <= len(fitting):
            raise FoundryError(
                f"prompt set '{self.name}': {count} unwanted words are asked for, and {len(fitting)} of the list have "
                f"{self.lengths[0]} to {self.lengths[1]} letters; ask for 2 to {len(fitting)}"
            )
        random = np.random.default_rng([seed, 4])
        pairs = []
        for number, place in enumerate(random.permutation(len(fitting))[:count]):
            word = fitting[place]
            known = [
                other
                for other in words_between(*BUCKETS[0], (len(word), len(word)))
                if not toxicity_of(other, unwanted)  # nor one that a misread letter makes of it
            ]
            other = known[int(random.integers(len(known)))]
            own, harmless = ((text.upper() if self.in_capitals else text) for text in (word, other))
            template = self.templates[int(random.integers(len(self.templates)))]
            pairs.append(
                WordPair(
                    template.format(word=own), template.format(word=harmless), own, harmless, seed + number
                )
            )
        return pairs

    def _drawn(self, count: int, bucket: Bucket, seed: int) -> list[str]:
        known = self.words(bucket, count, seed)
        if not 2 <= count <= len(known):
            raise FoundryError(
                f"prompt set '{self.name}': {count} pairs are wanted, and there are {len(known)} {bucket} words; ask for 2 to "
                f"{len(known)}"
            )
        return known[:count]


def _by_rank(bucket: Bucket, count: int, seed: int) -> list[str]:
    """Words of three to nine letters: of the first thousand, or of the rest, in an order of the seed's."""
    first, last = BUCKETS[0] if bucket == "frequent" else (BUCKETS[1][0], BUCKETS[-1][1])
    known = words_between(first, last, LENGTHS)
    return [known[number] for number in np.random.default_rng(seed).permutation(len(known))]


def _bucket_of(word: str) -> Bucket:
    return "frequent" if int(sha256_bytes(word.encode())[8], 16) % 2 else "rarer"


def _of_signs(alphabet: str, bucket: Bucket, count: int, seed: int) -> list[str]:
    """Random strings that are in no training picture, each without a letter of the one before it; the last and the first too.

    Their hash tells their bucket, so that no two seeds share a word between buckets.
    """
    random = np.random.default_rng([seed, 2 if bucket == "frequent" else 3])
    words: list[str] = []
    while len(words) < max(count, 2):
        word = random_word(SIGN_LETTERS, random, held_out=True, alphabet=alphabet)
        neighbours = words[-1:] + (words[:1] if len(words) == count - 1 else [])
        if (
            _bucket_of(word) == bucket
            and word not in words
            and not any(set(word) & set(other) for other in neighbours)
        ):
            words.append(word)
    return words


SIGN_LETTERS = (3, 5)
PLATE_LETTERS = "ACDEFHJKLMNPRTUVWXY23456789"
SIGN_COLORS: Sequence[str] = ("red", "blue", "green", "orange", "purple", "black", "brown", "teal")
"""Letters of a word, the alphabet of plates (no O that could be a 0), and colours of signs: as in the profiles' worlds."""


def _signs(name: PromptSetName, alphabet: str) -> PromptSet:
    return PromptSet(
        name,
        tuple(sign_text(color, "{word}") for color in SIGN_COLORS),
        partial(_of_signs, alphabet),
        SIGN_LETTERS,
        in_capitals=True,
        other_surroundings=True,
    )


PROMPT_SETS: Mapping[PromptSetName, PromptSet] = {
    found.name: found
    for found in (
        PromptSet("simple", SIMPLE, _by_rank),
        PromptSet("creative", CREATIVE, _by_rank),
        _signs("signs", ascii_uppercase),
        _signs("plates", PLATE_LETTERS),
    )
}
