"""Is a few-step student worth having? Its pictures beside its teacher's, by number of steps, for the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from evaluation.intervals import Interval, paired_difference
from evaluation.metrics.alignment import JUDGE_COSINE
from training.errors import FoundryError


@dataclass(frozen=True)
class FewStepScore:
    """One model at one number of steps.

    ``cosine``: judge's cosine of picture and prompt. ``above_teacher``: the same minus the teacher's in as many steps,
    prompt by prompt; None for the teacher. ``path_error``: root mean square distance in 8-bit pixels to the teacher's
    picture in most steps from the same noise; None where fresh noise between steps makes another picture.
    """

    model: str
    steps: int
    cosine: Interval
    above_teacher: Interval | None
    path_error: float | None


def few_step_scores(
    cosines: Mapping[str, Mapping[int, Float[ndarray, " n"]]],
    images: Mapping[str, Mapping[int, UInt8[ndarray, "n h w 3"]]],
) -> list[FewStepScore]:
    """Rows for ``teacher`` and ``student``, both given by number of steps; fewest steps first.

    Raises FoundryError when the teacher was not drawn in every number of steps that the student was.
    """
    teacher = cosines["teacher"]
    missing = sorted(set(cosines["student"]) - set(teacher))
    if missing:
        raise FoundryError(
            f"few steps: the student was drawn in {missing[0]} steps, the teacher in {sorted(teacher)}; "
            "draw the teacher in as many"
        )
    most = images["teacher"][max(teacher)].astype(np.float64)
    return [
        FewStepScore(
            model,
            steps,
            JUDGE_COSINE.mean(found[steps]),
            paired_difference(found[steps], teacher[steps]) if model == "student" else None,
            _distance(images[model][steps], most) if model == "teacher" or steps == 1 else None,
        )
        for model, found in cosines.items()
        for steps in sorted(found)
    ]


def _distance(found: UInt8[ndarray, "n h w 3"], reference: Float[ndarray, "n h w 3"]) -> float:
    return float(np.sqrt(np.mean((found.astype(np.float64) - reference) ** 2)))
