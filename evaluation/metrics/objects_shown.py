"""Whether models show the things that prompts name: a recogniser beside the judge, which also likes noise.

The judge compares a picture with a sentence as a whole and gives texture without any object a good mark; perception has to
find the object and name it. It sees pictures alone; which objects a prompt names comes from the scenes' hidden truth.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.metrics.metric import Evidence, Metric
from evaluation.metrics.placement import ratio_over_pictures
from training.errors import FoundryError


@dataclass(frozen=True)
class LookedFor:
    """Of each picture the objects that its prompt names, and the names that perception gives what it finds there."""

    wanted: Sequence[Collection[str]]
    found: Sequence[Collection[str]]

    def counts(self) -> Int[ndarray, "n 2"]:
        """Objects shown and objects wanted, a row a picture."""
        pairs = zip(self.wanted, self.found, strict=True)
        rows = [(sum(name in found for name in wanted), len(wanted)) for wanted, found in pairs]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)


def share_shown(counts: Int[ndarray, "n 2"], evidence: Evidence | None = None) -> Interval:
    """Objects shown over objects wanted, with a 95% interval from resampling pictures; those that want none say nothing.

    Raises FoundryError when nothing is wanted of any picture.
    """
    asked = counts[counts[:, 1] > 0]
    if len(asked) == 0:
        raise FoundryError("objects shown: no prompt names an object of its scene; score captions that do")
    return ratio_over_pictures(asked[:, 0], asked[:, 1])


OBJECTS_SHOWN = Metric(
    name="objects_shown",
    title="objects shown",
    scale="share of the objects named by prompts that perception recognises in the picture, [0, 1]",
    better="up",
    needs=("pictures", "objects"),
    by_unit=lambda evidence: evidence.objects.counts(),
    interval=share_shown,
    by_split=False,  # perception's bank knows training concepts alone
)
