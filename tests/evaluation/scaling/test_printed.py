"""The printed laws give the numbers of the paper's plots, and one of them cannot be right."""

from __future__ import annotations

import pytest

from evaluation.scaling import printed


@pytest.mark.parametrize(
    ("law", "scores"),
    [
        (printed.COMPUTE_LAW, (0.780, 0.817, 0.823)),
        (printed.PARAMETER_LAW, (1.50, 1.62, 1.81, 1.92)),
        (printed.PARAMETER_LAW_CORRECTED, (0.823, 0.830, 0.839, 0.844)),
        (printed.DATA_LAW, (0.801, 0.806, 0.815, 0.836)),
    ],
)
def test_arithmetic(law: printed.PrintedLaw, scores: tuple[float, ...]) -> None:
    assert [law.score(x) for x in law.plot_x] == pytest.approx(scores, abs=0.006)


def test_only_the_misprint_exceeds_one() -> None:
    assert [law.symbol for law in printed.PRINTED_LAWS if not law.possible] == ["N"]


def test_compute_formula() -> None:
    assert printed.training_gflops(198.0, 2048, 600_000) == pytest.approx(1.46e12, rel=0.005)
    assert printed.training_gflops(143.0, 2048, 850_000) == pytest.approx(1.49e12, rel=0.005)
