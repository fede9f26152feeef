"""Whether models write what they are asked to, and whether the layers that were located put in another word: by OCR.

Prompts, words and readings are those of a sweep over text layers, so that every model that is swept is measured alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.metrics.metric import Evidence, Metric
from evaluation.metrics.written_words import WordScores, score_words


@dataclass(frozen=True)
class AskedWords:
    """Of each pair of prompts the other word, and what was read in the other prompt's own picture and in the patched one."""

    words: Sequence[str]
    read_own: Sequence[str]
    read_patched: Sequence[str]


def shares(read: Sequence[str], words: Sequence[str]) -> Float[ndarray, "n 2"]:
    """Character precision and recall, a row a picture."""
    found = score_words(read, words)
    return np.stack([found.precision, found.recall], axis=1)


def f1_of_shares(values: Float[ndarray, "n 2"], evidence: Any = None) -> Interval:
    """F1 of mean precision and mean recall, as published, with its interval over pictures."""
    return WordScores.of_shares(values).f1()


def _own(evidence: Evidence) -> Float[ndarray, "n 2"]:
    return shares(evidence.words.read_own, evidence.words.words)


def _patched(evidence: Evidence) -> Float[ndarray, "n 2"]:
    return shares(evidence.words.read_patched, evidence.words.words)


WRITTEN_F1 = Metric(
    name="written_f1",
    title="words written as asked",
    scale="character F1 of what OCR reads with the word that was asked for, [0, 1]",
    better="up",
    needs=("words",),
    by_unit=_own,
    interval=f1_of_shares,
    by_split=False,  # prompts of their own, of no split
)
LOCATED_F1 = Metric(
    name="located_f1",
    title="words exchanged at located layers",
    scale="character F1 with the other word, where its keys and values stand at the layers that write, [0, 1]",
    better="up",
    needs=("words",),
    by_unit=_patched,
    interval=f1_of_shares,
    by_split=False,
)
