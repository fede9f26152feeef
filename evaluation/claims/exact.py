"""Claims that arithmetic and counting settle: they run everywhere, in seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.claims.registry import Measurement, Status
from evaluation.scaling.printed import COMPUTE_LAW, DATA_LAW, PARAMETER_LAW, PrintedLaw, training_gflops
from training.randomness import caption_index, sample_keys

PROFILE = "arithmetic"

PRINTED_NOUNS: tuple[tuple[float, float, float], ...] = (
    (1000.0, 7100.0, 7.1),
    (250.0, 1800.0, 7.0),
    (360.0, 2200.0, 6.0),
    (610.0, 3900.0, 6.5),
    (250.0, 3200.0, 12.8),
    (360.0, 4200.0, 11.6),
    (610.0, 7300.0, 12.2),
)
"""Table 3: images and image-noun pairs in millions, printed nouns per image."""


def exact_measurements(num_draws: int = 100_000) -> dict[str, Measurement]:
    """Measurements of all exact claims, by claim name."""
    from evaluation.claims.counted import counted_measurements

    return {
        "compute_law": _law(COMPUTE_LAW, 0.80, 0.84),
        "parameter_law": _law(PARAMETER_LAW, 0.80, 0.86),
        "data_law": _law(DATA_LAW, 0.80, 0.84),
        "compute_formula": _compute_formula(),
        "nouns_per_image": _nouns_per_image(),
        "caption_draws": _caption_draws(num_draws),
        **counted_measurements(),
    }


def _outcome(holds: bool) -> Status:
    return "holds" if holds else "fails"


def _law(law: PrintedLaw, low: float, high: float) -> Measurement:
    """Whether the law lands inside the paper's own plot (``low`` to ``high``) at the largest plotted x."""
    scores = [law.score(x) for x in law.plot_x]
    inside = low <= scores[-1] <= high
    text = ", ".join(f"{score:.3f}" for score in scores)
    return Measurement(text, _outcome(inside), PROFILE, len(scores), remark=law.remark)


def _compute_formula() -> Measurement:
    from evaluation.analysis.sizes import backbone_size

    gflops = training_gflops(backbone_size("SDXL").macs / 1e9, 2048, 600_000)
    return Measurement(f"{gflops:.3g} GFLOPs", _outcome(abs(gflops / 1.46e12 - 1) < 0.005), PROFILE, 1)


def _nouns_per_image() -> Measurement:
    """Printed figures are rounded, so each quotient is checked against the range its rounding allows."""
    missed = [row for row in PRINTED_NOUNS if not _within_rounding(*row)]
    quotients = ", ".join(f"{pairs / images:.2f}" for images, pairs, _ in PRINTED_NOUNS)
    remark = "; ".join(f"{pairs / images:.2f} is printed as {printed}" for images, pairs, printed in missed)
    return Measurement(quotients, _outcome(not missed), PROFILE, len(PRINTED_NOUNS), remark=remark)


def _within_rounding(images: float, pairs: float, printed: float) -> bool:
    """Pairs are printed to 0.1 billion, images to 10 million (1.0B to 50 million), the quotient to 0.1."""
    half_images = 50.0 if images >= 1000 else 5.0
    low, high = (pairs - 50.0) / (images + half_images), (pairs + 50.0) / (images - half_images)
    return low - 0.05 <= printed <= high + 0.05


def _caption_draws(num_draws: int) -> Measurement:
    """Frequencies of our own draw against 0.5 and 5 x 0.1, by a chi-square test at 0.1 %."""
    keys = sample_keys([f"sample {number}" for number in range(num_draws)])
    drawn = caption_index(0, 0, keys, np.full(num_draws, 6, dtype=np.int64), 0.5, 5)
    counts = np.bincount(drawn, minlength=6)
    expected = num_draws * np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    statistic = float(((counts - expected) ** 2 / expected).sum())
    text = _shares(counts / num_draws)
    return Measurement(
        text, _outcome(len(counts) == 6 and statistic < 20.52), PROFILE, num_draws, num_seeds=1
    )


def _shares(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
