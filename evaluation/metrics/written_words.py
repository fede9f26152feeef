"""Does a picture say what it was to say? What OCR read in it against the word that was asked for.

Characters are compared as multisets, as published (arXiv 2502.09935, section 3 and its code): an anagram scores 1, and words that
have nothing to do with each other share letters by chance, so that :func:`chance_level` belongs beside every score. Exact match
and edit distance, which order matters to, stand beside it. What a score says depends on the engine that reads: name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.language.spelling import edit_distance, normalized
from training.errors import FoundryError

_TINY_LENGTH, _TINY_SUM = 1e-8, 1e-6  # as the published code adds them to denominators
RESAMPLES = 2000


@dataclass(frozen=True)
class Shared:
    """How many characters a reading and a word have in common, each as often as both have it.

    ``precision``: of the characters read. ``recall``: of the word's. ``is_anagram``: the same characters, spaces aside (the paper's
    accuracy).
    """

    precision: float
    recall: float
    is_anagram: bool


def shared_characters(read: str, wanted: str) -> Shared:
    """Character-multiset precision and recall. A space that was read counts as a character, but not for ``is_anagram``."""
    mine, other = normalized(read), normalized(wanted)
    common = sum((Counter(mine) & Counter(other)).values())
    return Shared(
        common / (len(mine) + _TINY_LENGTH),
        common / (len(other) + _TINY_LENGTH),
        sorted(mine.replace(" ", "")) == sorted(other.replace(" ", "")),
    )


@dataclass(frozen=True)
class WordScores:
    """What OCR read against what was wanted, a row a picture."""

    precision: Float[ndarray, " n"]
    recall: Float[ndarray, " n"]
    anagram: Float[ndarray, " n"]
    exact: Float[ndarray, " n"]
    distance: Float[ndarray, " n"]

    @classmethod
    def of_shares(cls, shares: Float[ndarray, "n 2"]) -> WordScores:
        """Precision and recall a row a picture, as stored: enough for F1, nothing is known of the rest."""
        unknown = np.full(len(shares), np.nan)
        return cls(shares[:, 0], shares[:, 1], unknown, unknown, unknown)

    def f1(self, seed: int = 0) -> Interval:
        """F1 of the mean precision and the mean recall, as published (not a mean of F1s); pictures are resampled."""
        return self._interval(self._resampled_f1(seed), self._f1())

    def f1_minus(self, other: WordScores, seed: int = 0) -> Interval:
        """Difference of two F1s of the same prompts, resampled in pairs. Raises FoundryError for another number of them."""
        if len(self.precision) != len(other.precision):
            raise FoundryError(
                f"written words: {len(self.precision)} and {len(other.precision)} pictures; both must be of the same prompts"
            )
        resampled = self._resampled_f1(seed) - other._resampled_f1(seed)
        return self._interval(resampled, self._f1() - other._f1())

    def _f1(self) -> float:
        return float(_f1(self.precision.mean(), self.recall.mean()))

    def _resampled_f1(self, seed: int) -> Float[ndarray, " resamples"]:
        count = len(self.precision)
        drawn = (
            np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
        )
        return _f1(drawn @ self.precision, drawn @ self.recall)

    def _interval(self, resampled: Float[ndarray, " resamples"], value: float) -> Interval:
        low, high = np.quantile(resampled, [0.025, 0.975])
        return Interval(value, float(low), float(high), 0.95, len(self.precision))


def score_words(read: Sequence[str], wanted: Sequence[str]) -> WordScores:
    """Scores of readings. Raises FoundryError where there are none, or not as many as words."""
    if not read or len(read) != len(wanted):
        raise FoundryError(
            f"written words: {len(read)} readings and {len(wanted)} words; give one word a picture, at least one"
        )
    pairs = list(zip(read, wanted, strict=True))
    shared = [shared_characters(*pair) for pair in pairs]
    return WordScores(
        np.array([row.precision for row in shared]),
        np.array([row.recall for row in shared]),
        np.array([float(row.is_anagram) for row in shared]),
        np.array([float(normalized(mine) == normalized(other)) for mine, other in pairs]),
        np.array([edit_distance(*pair) for pair in pairs]),
    )


def chance_level(read: Sequence[str], wanted: Sequence[str]) -> Interval:
    """F1 of every reading against the word of the next picture: what letters have in common by chance.

    Raises FoundryError where all words are the same, for which there is none.
    """
    if len(set(wanted)) < 2:
        raise FoundryError("written words: a chance level needs at least two different words")
    others = [*wanted[1:], wanted[0]]
    kept = [(mine, other) for mine, other, own in zip(read, others, wanted, strict=True) if other != own]
    mine, other = zip(*kept, strict=True)
    return score_words(mine, other).f1()


def _f1(precision: Any, recall: Any) -> Any:
    """Of one mean each, or of many resampled ones."""
    return 2 * precision * recall / (precision + recall + _TINY_SUM)
