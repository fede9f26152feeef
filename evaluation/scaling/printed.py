"""The laws as the scalability paper (arXiv 2404.02883, section 5) prints them, and what they amount to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PrintedLaw:
    """``S = coefficient * x^exponent`` with S the TIFA score in [0, 1]; pure power laws on Pareto points.

    ``plot_x``: x of the points in the paper's plot, where its arithmetic can be checked.
    """

    symbol: str
    meaning: str
    coefficient: float
    exponent: float
    plot_x: tuple[float, ...]
    remark: str = ""

    def score(self, x: float) -> float:
        """TIFA that the law gives at ``x``; may exceed 1, which is how a misprint shows."""
        return self.coefficient * x**self.exponent

    @property
    def possible(self) -> bool:
        """Whether the law stays within TIFA <= 1 over the plotted points."""
        return all(self.score(x) <= 1.0 for x in self.plot_x)


COMPUTE_LAW = PrintedLaw(
    "C", "training compute, GFLOPs (3 x forward x batch x steps)", 0.47, 0.02, (1e11, 1e12, 1.46e12)
)
PARAMETER_LAW = PrintedLaw(
    "N",
    "parameters, millions",
    0.77,
    0.11,
    (424.0, 870.0, 2392.0, 4073.0),
    "as printed it gives TIFA above 1; likely a misprint for 0.011",
)
PARAMETER_LAW_CORRECTED = PrintedLaw(
    "N (0.011)",
    "parameters, millions",
    0.77,
    0.011,
    (424.0, 870.0, 2392.0, 4073.0),
    "our reading of the misprint: inside the paper's plot",
)
DATA_LAW = PrintedLaw(
    "D", "image-noun pairs, millions", 0.64, 0.03, (1800.0, 2200.0, 3200.0, 7300.0), "fitted on four points"
)
PRINTED_LAWS: tuple[PrintedLaw, ...] = (COMPUTE_LAW, PARAMETER_LAW, PARAMETER_LAW_CORRECTED, DATA_LAW)


def training_gflops(forward_gmacs: float, batch_size: int, steps: int) -> float:
    """Training compute as the paper counts it: 3 x (2 x MACs) x batch x steps, guidance left out."""
    return 3.0 * 2.0 * forward_gmacs * batch_size * steps
