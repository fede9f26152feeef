"""KID against a slow reference, and its error bar against repeated draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluation.metrics.kid import kernel_distance
from training.errors import FoundryError


def _slow(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / len(a) + 1.0) ** 3

    within = [
        sum(kernel(s[i], s[j]) for i, j in itertools.permutations(range(len(s)), 2)) / (len(s) * (len(s) - 1))
        for s in (x, y)
    ]
    across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return sum(within) - 2 * across


@pytest.mark.parametrize("block", [3, 5, 1024])
def test_agrees_with_the_definition(block: int) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(11, 6)), random.normal(0.3, 1.0, size=(8, 6))
    fast = kernel_distance(x, y, block=block)
    assert fast.value == pytest.approx(_slow(x, y), rel=1e-10)
    # Jackknife: the same statistic with each row left out.
    left_x = [_slow(np.delete(x, i, 0), y) for i in range(11)]
    left_y = [_slow(x, np.delete(y, i, 0)) for i in range(8)]
    variance = sum((len(v) - 1) ** 2 / len(v) * np.var(v, ddof=1) for v in (left_x, left_y))
    assert fast.standard_error == pytest.approx(np.sqrt(variance), rel=1e-8)


def test_error_bar_is_the_spread_of_repeated_draws() -> None:
    random = np.random.default_rng(1)
    draws = [
        kernel_distance(random.normal(size=(60, 8)), random.normal(0.5, 1.0, size=(50, 8)))
        for _ in range(200)
    ]
    spread = np.std([draw.value for draw in draws])
    assert np.mean([draw.standard_error for draw in draws]) == pytest.approx(spread, rel=0.2)


def test_equal_distributions_are_near_zero_on_both_sides() -> None:
    random = np.random.default_rng(2)
    values = [
        kernel_distance(random.normal(size=(40, 8)), random.normal(size=(40, 8))).value for _ in range(60)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)


@pytest.mark.parametrize(
    ("generated", "real", "match"),
    [
        (np.zeros((2, 4)), np.zeros((5, 4)), "2 generated pictures"),
        (np.zeros((5, 4)), np.full((5, 4), np.nan), "real features are not all finite"),
        (np.zeros((5, 4)), np.zeros((5, 3)), "4 channels, real ones 3"),
    ],
)
def test_bad_input(generated: np.ndarray, real: np.ndarray, match: str) -> None:
    with pytest.raises(FoundryError, match=match):
        kernel_distance(generated, real)
