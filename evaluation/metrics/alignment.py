"""Alignment of pictures with their prompts, by a judge's embeddings, between a floor and a ceiling.

Nothing here is drawn at random: the floor averages over *all* other prompts, and the chance to win against
``k - 1`` distractors is counted over all possible draws (a hypergeometric probability).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from evaluation.intervals import Interval, mean_interval
from evaluation.metrics.metric import Metric
from training.errors import FoundryError


@dataclass(frozen=True)
class PairScores:
    """Scores of n pictures, each with its own prompt.

    ``cosine``: picture with its prompt, [-1, 1]. ``shuffled_cosine``: mean with all other prompts.
    ``top1_of_k``: probability that its prompt beats k - 1 other prompts drawn without replacement, [0, 1].
    """

    cosine: Float[ndarray, " n"]
    shuffled_cosine: Float[ndarray, " n"]
    top1_of_k: Float[ndarray, " n"]
    k: int

    @property
    def chance(self) -> float:
        """``top1_of_k`` of a judge that guesses."""
        return 1.0 / self.k


@dataclass(frozen=True)
class AlignmentSummary:
    """Means with intervals; ``floor`` is the mean with shuffled prompts."""

    cosine: Interval
    floor: Interval
    above_floor: Interval
    top1_of_k: Interval
    k: int


def score_pairs(
    images: Float[ndarray, "n d"], texts: Float[ndarray, "m d"], prompts: Sequence[str], k: int = 8
) -> PairScores:
    """Score pictures against their prompts; row i of ``texts`` embeds ``prompts[i]``; rows have unit length.

    Prompts equal to the own one are no distractors. Raises FoundryError where fewer than k - 1 others exist.
    """
    distinct, first, own = np.unique(
        np.asarray(prompts, dtype=object), return_index=True, return_inverse=True
    )
    if len(images) != len(prompts) or len(texts) != len(prompts):
        raise FoundryError(
            f"alignment: found {len(images)} pictures, {len(texts)} texts and {len(prompts)} prompts; "
            "there must be one of each per picture"
        )
    if len(distinct) < k or k < 2:
        raise FoundryError(
            f"alignment: found {len(distinct)} distinct prompts for top-1 among k = {k}; k must be from 2 to "
            "the number of distinct prompts; add prompts or lower k"
        )
    similarity = images.astype(np.float64) @ texts[first].astype(np.float64).T
    rows = np.arange(len(images))
    cosine = similarity[rows, own]
    others = len(distinct) - 1
    shuffled = (similarity.sum(axis=1) - cosine) / others
    # A tie counts as lost, so that a judge with one answer for all does not look perfect.
    rivals = (similarity >= cosine[:, None]).sum(axis=1) - 1
    return PairScores(cosine, shuffled, _win_probability(rivals, others, k - 1), k)


def summarise_pairs(
    scores: PairScores, groups: Sequence[str] | None = None, seed: int = 0
) -> AlignmentSummary:
    """Means with bootstrap intervals. ``groups``: what is independent (prompts, when each has several seeds)."""

    def interval(values: Float[ndarray, " n"]) -> Interval:
        return mean_interval(_by_group(values, groups), seed=seed)

    return AlignmentSummary(
        cosine=interval(scores.cosine),
        floor=interval(scores.shuffled_cosine),
        above_floor=interval(scores.cosine - scores.shuffled_cosine),
        top1_of_k=interval(scores.top1_of_k),
        k=scores.k,
    )


def _win_probability(rivals: Int[ndarray, " n"], others: int, drawn: int) -> Float[ndarray, " n"]:
    """Probability that none of r rivals is drawn: C(others - r, drawn) / C(others, drawn)."""
    chance = np.ones(len(rivals))
    for i in range(drawn):
        chance *= np.maximum(others - rivals - i, 0) / (others - i)
    return chance


def _by_group(values: Float[ndarray, " n"], groups: Sequence[str] | None) -> Float[ndarray, " g"]:
    if groups is None:
        return values
    _, own = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    return np.bincount(own, weights=values) / np.bincount(own)


JUDGE_COSINE = Metric(
    name="judge_cosine",
    title="judge",
    scale="cosine of picture and prompt, [-1, 1]",
    better="up",
    needs=("pictures", "judge"),
    by_unit=lambda evidence: evidence.alignment.cosine,
)
JUDGE_FLOOR = Metric(
    name="judge_floor",
    title="judge, shuffled prompts",
    scale="mean cosine of a picture with all other prompts, [-1, 1]",
    better="down",
    needs=("pictures", "judge"),
    by_unit=lambda evidence: evidence.alignment.shuffled_cosine,
)
JUDGE_TOP1 = Metric(
    name="judge_top1_of_k",
    title="judge picks the prompt",
    scale="chance that a picture's prompt beats k - 1 others, [0, 1]",
    better="up",
    needs=("pictures", "judge", "distractors"),
    by_unit=lambda evidence: evidence.alignment.top1_of_k,
)
