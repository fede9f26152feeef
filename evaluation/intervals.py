"""Intervals for means: every number that is shown carries one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from training.errors import FoundryError

Outcome = Literal["holds", "fails", "inside the noise"]


@dataclass(frozen=True)
class Interval:
    """A value between two ends; ``level`` of repeated experiments should cover the truth.

    ``count``: how many independent items the value was computed from, where that is known.
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    count: int | None = None

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.3g} to {self.high:.3g})"

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference with this interval is beyond chance."""
        return self.low > 0 or self.high < 0


def bounded(name: str, found: Interval) -> dict[str, float]:
    """An interval as columns of a table: ``name``, ``name_low`` and ``name_high``."""
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def mean_interval(
    values: Float[ndarray, " n"], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of independent items with a percentile bootstrap interval.

    Pass one value per independent item (a picture, a seed): average what belongs to one item first.
    Raises FoundryError for no values at all and for values that are not finite.
    """
    if len(values) == 0 or not np.all(np.isfinite(values)):
        raise FoundryError(
            f"interval of a mean: found {len(values)} values, {int(np.sum(~np.isfinite(values)))} not finite; "
            "at least one value is needed and all must be finite; check that the evaluation ran"
        )
    mean = float(values.mean())
    if len(values) == 1:  # one item says nothing about its spread
        return Interval(mean, -np.inf, np.inf, level, 1)
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(values), np.full(len(values), 1.0 / len(values)), size=resamples)
    # The factor undoes the bootstrap's (n - 1) / n, which matters for a handful of seeds.
    spread = np.sqrt(len(values) / (len(values) - 1.0))
    means = mean + spread * (counts @ values / len(values) - mean)
    low, high = np.quantile(means, [(1.0 - level) / 2, (1.0 + level) / 2])
    return Interval(mean, float(low), float(high), level, len(values))


def status_of(difference: Interval) -> Outcome:
    """``holds`` when the difference is positive beyond its interval, ``fails`` when negative beyond it."""
    if difference.low > 0:
        return "holds"
    return "fails" if difference.high < 0 else "inside the noise"


def paired_difference(
    first: Float[ndarray, " n"], second: Float[ndarray, " m"], *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of ``first - second`` over the same items, with its interval: far sharper than two intervals.

    Raises FoundryError when the two do not have the same length.
    """
    if first.shape != second.shape:
        raise FoundryError(
            f"paired difference: found {len(first)} and {len(second)} values; both must score the same items; "
            "evaluate both models on the same held-out samples"
        )
    return mean_interval(first - second, level=level, seed=seed)
