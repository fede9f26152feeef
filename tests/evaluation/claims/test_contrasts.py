"""Seeds against seeds: the interval keeps its promise, and says what it sees."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.claims.contrasts import (
    ContrastedCell,
    contrast_measurement,
    lower_over_cells,
    seed_half_width,
)
from training.errors import FoundryError

SAMPLES = np.random.default_rng(1).uniform(0.1, 0.4, 60)


def cell(random: np.random.Generator, lower_by: float, seeds: int = 3, name: str = "t.all") -> ContrastedCell:
    """Three seeds a side: an error of its own for each sample, shifted by the seed."""
    shifts = random.normal(0, 0.01, (2, seeds, 1))
    noise = random.normal(0, 0.005, (2, seeds, len(SAMPLES)))
    left, right = SAMPLES + shifts + noise
    return ContrastedCell(name, left - lower_by, right)


def test_no_difference_is_called_one_in_a_twentieth_of_the_cases() -> None:
    random = np.random.default_rng(0)
    intervals = [lower_over_cells([cell(random, 0.0)]) for _ in range(120)]
    wrong = sum(not interval.low <= 0 <= interval.high for interval in intervals)
    assert 0 < wrong / 120 <= 0.1


def test_other_groups_tell_the_noise_better_and_the_promise_is_kept() -> None:
    random = np.random.default_rng(5)
    alone, helped = [], []
    for _ in range(120):
        drawn = cell(random, 0.0)
        others = [
            group for _ in range(4) for other in [cell(random, 0.3)] for group in (other.left, other.right)
        ]
        alone.append(lower_over_cells([drawn]))
        helped.append(lower_over_cells([drawn], others=others))
    wrong = sum(not interval.low <= 0 <= interval.high for interval in helped)
    assert 0 < wrong / 120 <= 0.1
    assert all(a.value == b.value for a, b in zip(alone, helped, strict=True))
    widths = [np.mean([interval.high - interval.low for interval in found]) for found in (alone, helped)]
    assert widths[1] < 0.85 * widths[0]


def test_one_seed_everywhere_tells_no_noise() -> None:
    with pytest.raises(FoundryError, match="no group has two seeds"):
        seed_half_width([np.array([0.1]), np.array([0.2])], 1.0)
    assert seed_half_width([np.array([0.0, 0.2])], 0.5) == pytest.approx(12.706 * 0.1, rel=1e-4)


def test_a_difference_is_found_and_more_cells_find_smaller_ones() -> None:
    random = np.random.default_rng(2)
    one = lower_over_cells([cell(random, 0.05)])
    many = lower_over_cells([cell(random, 0.05) for _ in range(6)])
    assert one.low > 0
    assert many.value == pytest.approx(0.05, abs=0.01)
    assert many.high - many.low < 0.6 * (one.high - one.low)


@pytest.mark.parametrize(
    ("lower_by", "status"), [(0.06, "holds"), (-0.06, "fails"), (0.0, "inside the noise")]
)
def test_a_claim_gets_its_status(lower_by: float, status: str) -> None:
    found = contrast_measurement(
        [cell(np.random.default_rng(3), lower_by)], profile="demo", names=("mixed", "original")
    )
    assert found.status == status
    assert (found.num_items, found.num_seeds) == (60, 6)
    assert "(t.all)" in found.measured


def test_what_cannot_be_compared_is_refused() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(FoundryError, match="found 1 and 1 seeds"):
        lower_over_cells([cell(random, 0.0, seeds=1)])
    with pytest.raises(FoundryError, match="found no cells"):
        lower_over_cells([])
    short = ContrastedCell("t.half", SAMPLES[None, :9].repeat(2, 0), SAMPLES[None, :9].repeat(2, 0))
    with pytest.raises(FoundryError, match="different numbers of samples"):
        lower_over_cells([cell(random, 0.0), short])
