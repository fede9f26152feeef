"""Precision and recall of manifolds against their definition, and on sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.fidelity_diversity import manifolds
from training.errors import FoundryError


def _slowly(first: np.ndarray, second: np.ndarray, k: int) -> list[float]:
    """Of each row of the first set, whether it lies in the manifold of the second."""
    inside = []
    for own in first:
        hit = False
        for number, center in enumerate(second):
            others = [float(np.linalg.norm(center - row)) for n, row in enumerate(second) if n != number]
            hit |= float(np.linalg.norm(own - center)) <= sorted(others)[k - 1]
        inside.append(float(hit))
    return inside


@pytest.mark.parametrize("k", [1, 3])
def test_agrees_with_the_definition(k: int) -> None:
    random = np.random.default_rng(0)
    drawn, real = random.normal(size=(17, 4)), random.normal(0.8, 1.2, size=(13, 4))
    found = manifolds(drawn, real, neighbours=k)
    assert found.fidelity.tolist() == _slowly(drawn, real, k)
    assert found.diversity.tolist() == _slowly(real, drawn, k)
    assert 0 < found.diversity.mean() < 1


def test_a_set_beside_itself_is_whole_and_a_far_one_is_not() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(20, 8)).astype(np.float32)
    same, far = manifolds(rows, rows), manifolds(rows + 100, rows)
    assert same.fidelity.mean() == same.diversity.mean() == 1
    assert far.fidelity.mean() == far.diversity.mean() == 0


def test_drawn_pictures_that_are_all_alike_keep_fidelity_and_lose_diversity() -> None:
    random = np.random.default_rng(2)
    real = random.normal(size=(60, 2))
    drawn = real[:1] + 1e-3 * random.normal(size=(60, 2))
    found = manifolds(drawn, real)
    assert found.fidelity.mean() == 1
    assert found.diversity.mean() < 0.1


def test_too_few_pictures_and_other_features_are_told() -> None:
    rows = np.zeros((3, 2))
    with pytest.raises(FoundryError, match="more than 3 of each"):
        manifolds(rows, rows)
    with pytest.raises(FoundryError, match="2 and 3 features"):
        manifolds(np.zeros((5, 2)), np.zeros((5, 3)))
