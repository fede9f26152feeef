"""What a grid of runs says of a claim: several seeds against several seeds, over all cells that share the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.claims.registry import Measurement
from evaluation.intervals import Interval, mean_interval, status_of
from training.errors import FoundryError


@dataclass(frozen=True)
class ContrastedCell:
    """Errors per held-out sample of both sides, one row a seed; ``left`` is the side that the claim favours."""

    name: str
    left: Float[ndarray, "s n"]
    right: Float[ndarray, "r n"]


def lower_over_cells(
    cells: Sequence[ContrastedCell], *, others: Sequence[Float[ndarray, "_ m"]] = (), level: float = 0.95
) -> Interval:
    """How much lower the left error is, the mean over cells, with an interval.

    Seed noise is one variance pooled over all groups of seeds, with as many degrees of freedom as all seeds but one
    of each group; ``others`` are groups that are not contrasted here but spread as these do, such as the other cells
    of a study whose trainings differ little: with 3 seeds a group, two groups alone tell a variance badly. The
    difference of two means over ``s`` and ``r`` seeds has variance ``sd^2 (1/s + 1/r)``. Noise of the held-out
    samples is paired, for both sides are scored on the same ones, and added in quadrature. Raises FoundryError for no
    cells, fewer than two seeds on a side, or sides that were scored on different samples.
    """
    _check(cells)
    groups = [group.mean(axis=1) for cell in cells for group in (cell.left, cell.right)]
    weight = sum(1 / len(group) for group in groups) / len(cells) ** 2
    seed_half = seed_half_width([*groups, *(group.mean(axis=1) for group in others)], weight, level)
    per_sample = np.mean([cell.right.mean(axis=0) - cell.left.mean(axis=0) for cell in cells], axis=0)
    samples = mean_interval(per_sample, level=level)
    middle = samples.value
    return Interval(
        middle,
        middle - float(np.hypot(middle - samples.low, seed_half)),
        middle + float(np.hypot(samples.high - middle, seed_half)),
        level,
        len(per_sample),
    )


def seed_half_width(groups: Sequence[Float[ndarray, " _"]], weight: float, level: float = 0.95) -> float:
    """Half the interval of a sum of means over seeds, by Student's t and one variance pooled over all groups.

    ``weight``: the variance of that sum in units of one seed's, 1/s for the mean of ``s`` seeds. Raises FoundryError
    where no group has two seeds.
    """
    from scipy import stats

    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        raise FoundryError("contrast: no group has two seeds, which tell seed noise; train more seeds")
    variance = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom
    return float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(variance * weight))


def contrast_measurement(
    cells: Sequence[ContrastedCell], *, profile: str, names: tuple[str, str], remark: str = ""
) -> Measurement:
    """The claim that the left side has the lower held-out denoising error."""
    difference = lower_over_cells(cells)
    others = sum(len(group) for cell in cells for group in (cell.left, cell.right))
    left = float(np.mean([cell.left.mean() for cell in cells]))
    right = float(np.mean([cell.right.mean() for cell in cells]))
    where = ", ".join(cell.name for cell in cells)
    return Measurement(
        measured=f"{names[0]} {left:.4f}, {names[1]} {right:.4f}: lower by {difference.value:.4f} ({where})",
        status=status_of(difference),
        profile=profile,
        num_items=len(cells[0].left[0]),
        num_seeds=others,
        interval=difference,
        remark=remark,
    )


def _check(cells: Sequence[ContrastedCell]) -> None:
    if not cells:
        raise FoundryError("contrast: found no cells; score both sides of at least one first")
    for cell in cells:
        if min(len(cell.left), len(cell.right)) < 2:
            raise FoundryError(
                f"contrast {cell.name}: found {len(cell.left)} and {len(cell.right)} seeds; at least 2 a side tell seed "
                "noise; train more seeds"
            )
        if len({group.shape[1] for other in cells for group in (other.left, other.right)}) != 1:
            raise FoundryError(
                f"contrast {cell.name}: the sides were scored on different numbers of samples; score them again"
            )
