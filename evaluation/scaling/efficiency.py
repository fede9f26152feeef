"""Learning efficiency: how many images, and how much compute, a training needs to reach a score.

A run is scored at a few log-spaced counts of images. Between two of them the score is taken to be linear in the
logarithm of images; the first crossing counts. Over seeds the mean and its t-interval are taken of the logarithm, so
the figure is a geometric mean. A run that never reaches the score is said to have not reached it and is never
averaged away: then there is no mean, only how many seeds got there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from evaluation.intervals import Interval
from training.errors import FoundryError


@dataclass(frozen=True)
class LearningCurve:
    """Scores of one seed: ``images_seen`` ascends; ``falling`` says that a lower score is better (an error)."""

    images_seen: Int[ndarray, " n"]
    score: Float[ndarray, " n"]
    falling: bool = True


@dataclass(frozen=True)
class Efficiency:
    """Images (and GFLOPs, where the cost of one image is known) to reach ``target``.

    ``reached`` of ``seeds`` runs got there. ``images`` is None unless all did; ``at_most`` says that some seed was
    there at its first scored count already, so that the figure is an upper bound. ``seen`` is the largest count
    scored in the runs that did not get there, 0 where there are none.
    """

    target: float
    reached: int
    seeds: int
    images: Interval | None
    gflops: Interval | None
    at_most: bool
    seen: int

    @property
    def text(self) -> str:
        """The outcome in words."""
        if self.images is None:
            return f"not reached by {self.seeds - self.reached} of {self.seeds} seeds within {self.seen:,} images"
        bound = "at most " if self.at_most else ""
        return f"{bound}{self.images.value:,.0f} images ({_range(self.images)})"


def images_to_reach(curve: LearningCurve, target: float) -> float | None:
    """Images seen when the score first is as good as ``target``; None when it never is.

    The first count when it is there already. Raises FoundryError for counts that do not ascend, or scores that are
    not finite.
    """
    counts, score = _checked(curve)
    good = score <= target if curve.falling else score >= target
    if not good.any():
        return None
    place = int(np.argmax(good))
    if place == 0:
        return float(counts[0])
    before, after = score[place - 1], score[place]
    share = (target - before) / (after - before)
    low, high = np.log(counts[place - 1]), np.log(counts[place])
    return float(np.exp(low + share * (high - low)))


def learning_efficiency(
    curves: Sequence[LearningCurve],
    target: float,
    *,
    gflops_per_image: float | None = None,
    level: float = 0.95,
) -> Efficiency:
    """Images to reach ``target`` over the seeds of one cell, one curve a seed. Raises FoundryError for no curves."""
    if not curves:
        raise FoundryError(
            "learning efficiency: found no learning curve; score at least one run of the cell first"
        )
    found = [images_to_reach(curve, target) for curve in curves]
    reached = [images for images in found if images is not None]
    missed = [
        int(curve.images_seen[-1]) for curve, images in zip(curves, found, strict=True) if images is None
    ]
    images = geometric_mean(np.array(reached), level) if not missed else None
    at_most = any(images == float(curve.images_seen[0]) for curve, images in zip(curves, found, strict=True))
    gflops = None
    if images is not None and gflops_per_image is not None:
        gflops = _scaled(images, gflops_per_image)
    return Efficiency(target, len(reached), len(curves), images, gflops, at_most, max(missed, default=0))


def geometric_mean(values: Float[ndarray, " n"], level: float = 0.95) -> Interval:
    """Geometric mean of positive values with the t-interval of their logarithms; open ends for a single value."""
    from scipy import stats

    logs = np.log(values)
    middle, number = float(logs.mean()), len(values)
    if number == 1:
        return Interval(float(values[0]), 0.0, np.inf, level, 1)
    half = float(stats.t.ppf((1 + level) / 2, number - 1) * logs.std(ddof=1) / np.sqrt(number))
    return Interval(
        float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half)), level, number
    )


def shared_targets(finals: Sequence[float], *, falling: bool = True) -> tuple[float, ...]:
    """Targets that say something of all cells: the worst cell's final score, which all reach, and the middle one's."""
    ordered = sorted(finals, reverse=falling)
    return tuple(dict.fromkeys((ordered[0], ordered[len(ordered) // 2]))) if ordered else ()


def _checked(curve: LearningCurve) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    counts = np.asarray(curve.images_seen, np.float64)
    score = np.asarray(curve.score, np.float64)
    if len(counts) == 0 or len(counts) != len(score) or np.any(np.diff(counts) <= 0) or counts[0] <= 0:
        raise FoundryError(
            f"learning curve: found counts {counts.tolist()} for {len(score)} scores; counts are positive and ascend, "
            "one a score; sort the rows by images seen"
        )
    if not np.all(np.isfinite(score)):
        raise FoundryError("learning curve: a score is not finite; drop the failed run")
    return counts, score


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(
        interval.value * factor, interval.low * factor, interval.high * factor, interval.level, interval.count
    )


def _range(interval: Interval) -> str:
    if not np.isfinite(interval.high):
        return "one seed, no interval"
    return f"{interval.low:,.0f} to {interval.high:,.0f}"
