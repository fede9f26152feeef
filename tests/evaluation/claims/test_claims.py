"""Claims: exact ones are settled by arithmetic, empirical ones wait for a measurement and may fail."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.claims.comparison import better_beyond_noise, larger_is_better
from evaluation.claims.exact import exact_measurements
from evaluation.claims.registry import CLAIMS, claim_results
from evaluation.intervals import Interval, status_of
from training.errors import FoundryError


def test_exact_claims_are_all_measured_and_three_fail_as_printed() -> None:
    measured = exact_measurements()
    assert set(measured) == {claim.name for claim in CLAIMS if claim.kind == "exact"}
    assert {name for name, found in measured.items() if found.status == "fails"} == {
        "parameter_law",
        "nouns_per_image",
        "unet_attention",
    }
    assert "11.97 is printed as 12.2" in measured["nouns_per_image"].remark


def test_what_nobody_measured_is_not_run() -> None:
    results = claim_results(exact_measurements())
    assert {result.status for result in results if result.claim.kind == "empirical"} == {"not run"}


def test_unregistered_claim_is_an_error() -> None:
    with pytest.raises(FoundryError, match="found 'bigger_is_nicer'; known are compute_law"):
        claim_results({"bigger_is_nicer": exact_measurements()["compute_law"]})


@pytest.mark.parametrize(("shift", "status"), [(0.08, "holds"), (0.0, "inside the noise"), (-0.08, "fails")])
def test_larger_is_better(shift: float, status: str) -> None:
    random = np.random.default_rng(0)
    scenes = random.normal(0.55, 0.05, 128)
    seeds = scenes + np.array([[0.002], [0.0], [-0.002]]) + random.normal(0, 0.01, (3, 128))
    largest = scenes - shift + random.normal(0, 0.01, 128)
    found = larger_is_better(largest, seeds, profile="demo", names=("large", "small"))
    assert found.status == status
    assert (found.num_items, found.num_seeds) == (128, 3)


def test_false_alarms_stay_rare_when_both_recipes_are_the_same() -> None:
    """Seed noise dominates here: an interval over samples alone would cry wolf almost every time."""
    alarms = 0
    for trial in range(100):
        random = np.random.default_rng(trial)
        scenes = random.normal(0.5, 0.05, 64)
        runs = scenes + random.normal(0, 0.02, (4, 1)) + random.normal(0, 0.005, (4, 64))
        alarms += status_of(better_beyond_noise(runs[0], runs[1:])) != "inside the noise"
    assert alarms <= 0.12 * 100


def test_one_seed_cannot_tell() -> None:
    with pytest.raises(FoundryError, match="found 1 seed"):
        better_beyond_noise(np.zeros(5), np.zeros((1, 5)))


def test_status() -> None:
    assert status_of(Interval(1.0, 0.5, 1.5)) == "holds"
    assert status_of(Interval(-1.0, -1.5, -0.5)) == "fails"
    assert status_of(Interval(0.1, -0.5, 0.5)) == "inside the noise"
