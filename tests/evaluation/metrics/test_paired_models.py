"""A smaller model against its parent: percent of the parent's score, paired, and similarity of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.intervals import Interval
from evaluation.metrics.paired_models import smaller_score, ssim, within_margin
from training.errors import FoundryError


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_equal_pictures_are_alike_and_strangers_are_not() -> None:
    first = pictures(1)[0]
    assert ssim(first, first) == pytest.approx(1.0)
    assert abs(ssim(first, pictures(1, 1)[0])) < 0.1
    assert ssim(first, 255 - first) < -0.8
    assert ssim(first, pictures(1, 1)[0]) == pytest.approx(ssim(pictures(1, 1)[0], first))


def test_flat_pictures_differ_in_luminance_alone() -> None:
    """Without variance the structure is 1 and SSIM is (2ab + C1) / (a^2 + b^2 + C1) (Wang et al. 2004, eq. 13)."""
    a, b = np.full((16, 16, 3), 60, np.uint8), np.full((16, 16, 3), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 60 * 120 + c1) / (60**2 + 120**2 + c1), rel=1e-6)


def test_scores_are_paired_and_in_percent_of_the_parent() -> None:
    random = np.random.default_rng(0)
    parent = 0.5 + 0.2 * random.normal(size=200)
    score = smaller_score(parent, parent - 0.025, pictures(200), pictures(200))
    assert score.relative.value == pytest.approx(-0.025 / parent.mean())
    assert (
        score.relative.high - score.relative.low < 1e-9
    )  # every prompt lost as much, however the prompts differ
    assert score.parent.high - score.parent.low > 0.02
    assert score.ssim.value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("low", "high", "side"),
    [(-0.09, 0.0, "holds"), (-0.2, -0.05, "inside the noise"), (-0.3, -0.11, "fails"), (-0.1, -0.1, "holds")],
)
def test_margin(low: float, high: float, side: str) -> None:
    assert within_margin(Interval((low + high) / 2, low, high)) == side


def test_a_parent_that_paints_nothing_is_no_measure() -> None:
    with pytest.raises(FoundryError, match=r"parent's mean judge cosine is -0\.100"):
        smaller_score(np.full(3, -0.1), np.zeros(3), pictures(3), pictures(3))
