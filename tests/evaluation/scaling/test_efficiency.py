"""Images to reach a score, on curves whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scaling.efficiency import (
    LearningCurve,
    geometric_mean,
    images_to_reach,
    learning_efficiency,
    shared_targets,
)
from training.errors import FoundryError

COUNTS = np.array([100, 200, 400, 800, 1600, 3200])


def curve(start: float, per_doubling: float, *, falling: bool = True) -> LearningCurve:
    """A score that is a line over the logarithm of images, which interpolation follows exactly."""
    steps = np.log2(COUNTS / COUNTS[0])
    return LearningCurve(
        COUNTS, start - per_doubling * steps if falling else start + per_doubling * steps, falling
    )


def test_a_line_over_log_images_is_followed_exactly() -> None:
    assert images_to_reach(curve(1.0, 0.1), 0.75) == pytest.approx(100 * 2**2.5)
    assert images_to_reach(curve(0.0, 0.1, falling=False), 0.25) == pytest.approx(100 * 2**2.5)
    assert images_to_reach(curve(1.0, 0.1), 0.5) == pytest.approx(3200)


def test_a_power_law_is_met_between_the_counts_that_bracket_it() -> None:
    score = 0.2 + 5.0 * COUNTS**-0.5
    truth = (5.0 / 0.15) ** 2
    found = images_to_reach(LearningCurve(COUNTS, score), 0.35)
    assert found is not None
    assert 800 < truth < 1600
    assert found == pytest.approx(truth, rel=0.05)


def test_the_first_crossing_counts_and_the_start_is_a_bound() -> None:
    noisy = LearningCurve(COUNTS, np.array([1.0, 0.5, 0.7, 0.4, 0.3, 0.2]))
    assert images_to_reach(noisy, 0.6) == pytest.approx(100 * 2**0.8)
    found = learning_efficiency([noisy], 1.5)
    assert found.at_most
    assert found.images is not None
    assert found.images.value == 100


def test_seeds_give_a_geometric_mean_with_a_t_interval() -> None:
    curves = [curve(1.0, 0.1), curve(1.1, 0.1), curve(0.9, 0.1)]  # 0.7 after 3, 4 and 2 doublings
    found = learning_efficiency(curves, 0.7, gflops_per_image=0.5)
    assert found.images is not None
    assert found.gflops is not None
    assert found.images.value == pytest.approx(800)
    half = 4.302652729696142 * np.log(2) / np.sqrt(3)
    assert found.images.low == pytest.approx(800 * np.exp(-half))
    assert found.images.high == pytest.approx(800 * np.exp(half))
    assert found.gflops.value == pytest.approx(400)
    assert (found.reached, found.seeds, found.at_most) == (3, 3, False)


def test_a_seed_that_does_not_get_there_is_said_and_not_averaged_away() -> None:
    found = learning_efficiency([curve(1.0, 0.1), curve(1.5, 0.1)], 0.7, gflops_per_image=1.0)
    assert (found.images, found.gflops) == (None, None)
    assert found.text == "not reached by 1 of 2 seeds within 3,200 images"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        interval = geometric_mean(np.exp(random.normal(np.log(500), 0.3, 3)))
        hits += interval.low <= 500 <= interval.high
    assert 0.92 <= hits / 400 <= 0.98


def test_one_seed_has_no_interval() -> None:
    found = learning_efficiency([curve(1.0, 0.1)], 0.7)
    assert found.text == "800 images (one seed, no interval)"


def test_targets_are_final_scores_that_all_or_half_of_the_cells_reach() -> None:
    assert shared_targets([0.3, 0.5, 0.4]) == (0.5, 0.4)
    assert shared_targets([0.3, 0.5, 0.4], falling=False) == (0.3, 0.4)
    assert shared_targets([]) == ()


def test_bad_curves_are_refused() -> None:
    with pytest.raises(FoundryError, match="counts are positive and ascend"):
        images_to_reach(LearningCurve(COUNTS[::-1].copy(), np.ones(6)), 1.0)
    with pytest.raises(FoundryError, match="not finite"):
        images_to_reach(LearningCurve(COUNTS, np.full(6, np.nan)), 1.0)
    with pytest.raises(FoundryError, match="found no learning curve"):
        learning_efficiency([], 1.0)
