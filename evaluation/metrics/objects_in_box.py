"""Whether models that are told boxes put things there: what perception finds against the boxes, as told and exchanged.

Perception sees pictures alone; which object a told phrase means comes from the scenes' hidden truth. The centre of what is
recognised has to lie in the told box; how tightly it fills it is what :mod:`evaluation.metrics.box_metrics` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from evaluation.intervals import Interval
from evaluation.metrics.metric import Evidence, Metric
from evaluation.metrics.placement import Found, Wanted, is_hit, ratio_over_pictures
from training.errors import FoundryError


@dataclass(frozen=True)
class ToldBoxes:
    """Of each told layout the objects and their boxes, and what perception finds in the picture that was drawn of it.

    ``told``: boxes as they are. ``exchanged``: boxes left and right exchanged, of the objects alone that this moves.
    """

    sample_ids: Sequence[str]
    told: Sequence[Wanted]
    found_told: Mapping[str, Sequence[Found]]
    exchanged: Sequence[Wanted]
    found_exchanged: Mapping[str, Sequence[Found]]


def counts_in_box(
    sample_ids: Sequence[str], wanted: Sequence[Wanted], found: Mapping[str, Sequence[Found]]
) -> Int[ndarray, "n 2"]:
    """Objects in their box and objects wanted, a row a picture."""
    rows = {key: [0, 0] for key in sample_ids}
    for item in wanted:
        rows[item.sample_id][0] += is_hit(item, found[item.sample_id])
        rows[item.sample_id][1] += 1
    return np.array([rows[key] for key in sample_ids], dtype=np.int64).reshape(-1, 2)


def share_in_box(counts: Int[ndarray, "n 2"], evidence: Evidence | None = None) -> Interval:
    """Objects in their box over objects told, with a 95% interval from resampling pictures.

    Raises FoundryError when nothing was told of any picture.
    """
    asked = counts[counts[:, 1] > 0]
    if len(asked) == 0:
        raise FoundryError(
            "objects in box: no told phrase means an object of its scene; score layouts that do"
        )
    return ratio_over_pictures(asked[:, 0], asked[:, 1])


OBJECTS_IN_BOX = Metric(
    name="objects_in_box",
    title="objects in their box",
    scale="share of the told objects that perception recognises with their centre in their box, [0, 1]",
    better="up",
    needs=("layouts",),
    by_unit=lambda evidence: counts_in_box(
        evidence.layouts.sample_ids, evidence.layouts.told, evidence.layouts.found_told
    ),
    interval=share_in_box,
    by_split=False,  # layouts are of one split
)
OBJECTS_FOLLOW = Metric(
    name="objects_follow_boxes",
    title="objects that follow exchanged boxes",
    scale="the same where boxes are exchanged left and right, of the objects that this moves, [0, 1]",
    better="up",
    needs=("layouts",),
    by_unit=lambda evidence: counts_in_box(
        evidence.layouts.sample_ids, evidence.layouts.exchanged, evidence.layouts.found_exchanged
    ),
    interval=share_in_box,
    by_split=False,
)
