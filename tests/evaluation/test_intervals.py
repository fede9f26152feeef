"""Means and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.intervals import mean_interval, paired_difference
from training.errors import FoundryError


@pytest.mark.parametrize("count", [10, 100])
def test_covers_the_mean(count: int) -> None:
    covered = 0
    for seed in range(300):
        interval = mean_interval(
            np.random.default_rng(seed).normal(1.0, 1.0, count), resamples=500, seed=seed
        )
        covered += interval.low <= 1.0 <= interval.high
    assert 0.89 <= covered / 300 <= 0.985


def test_one_value_has_no_finite_interval() -> None:
    interval = mean_interval(np.array([2.0]))
    assert (interval.value, interval.low, interval.high) == (2.0, -np.inf, np.inf)


def test_pairs_are_sharper_than_singles() -> None:
    random = np.random.default_rng(0)
    common = random.normal(0.0, 1.0, 60)
    difference = paired_difference(common + 0.1 + random.normal(0, 0.05, 60), common)
    assert difference.excludes_zero
    assert not mean_interval(common).excludes_zero


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_bad_values(values: list[float]) -> None:
    with pytest.raises(FoundryError, match="at least one value"):
        mean_interval(np.array(values))


def test_pairs_must_match() -> None:
    with pytest.raises(FoundryError, match="2 and 3 values"):
        paired_difference(np.zeros(2), np.zeros(3))
