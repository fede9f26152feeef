"""Whether one model beats another beyond the noise of seeds and of the held-out samples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.claims.registry import Measurement
from evaluation.intervals import Interval, mean_interval, status_of
from training.errors import FoundryError


def better_beyond_noise(
    challenger: Float[ndarray, " n"], seeds_of_other: Float[ndarray, "s n"], *, level: float = 0.95
) -> Interval:
    """How much lower the challenger's error is than the other's mean over seeds, with an interval.

    ``challenger``: error per held-out sample of one run. ``seeds_of_other``: the same samples under ``s`` seeds
    of the other recipe. One run is compared with a mean of ``s``, and one run may be lucky: so the interval
    holds seed noise ``t(s - 1) sd sqrt(1 + 1/s)``, and the paired noise over samples, added in quadrature.
    Raises FoundryError for fewer than two seeds, for seed noise cannot then be told.
    """
    from scipy import stats

    num_seeds = len(seeds_of_other)
    if num_seeds < 2:
        raise FoundryError(
            f"comparison: found {num_seeds} seed of the other recipe; at least 2 tell seed noise; train more seeds"
        )
    over_samples = mean_interval(seeds_of_other.mean(axis=0) - challenger, level=level)
    seed_spread = float(np.std(seeds_of_other.mean(axis=1), ddof=1))
    quantile = float(stats.t.ppf((1 + level) / 2, num_seeds - 1))
    seed_half = quantile * seed_spread * np.sqrt(1 + 1 / num_seeds)
    middle = over_samples.value
    return Interval(
        middle,
        middle - float(np.hypot(middle - over_samples.low, seed_half)),
        middle + float(np.hypot(over_samples.high - middle, seed_half)),
        level,
        len(challenger),
    )


def larger_is_better(
    largest: Float[ndarray, " n"],
    seeds_of_smallest: Float[ndarray, "s n"],
    *,
    profile: str,
    names: tuple[str, str],
) -> Measurement:
    """The claim that a larger backbone has the lower held-out denoising error, at our scale."""
    difference = better_beyond_noise(largest, seeds_of_smallest)
    return Measurement(
        measured=f"{names[0]} is lower than {names[1]} by {difference.value:.4f}",
        status=status_of(difference),
        profile=profile,
        num_items=len(largest),
        num_seeds=len(seeds_of_smallest),
        interval=difference,
        remark="denoising error of the clean latent, not TIFA; small models on composed scenes",
    )
