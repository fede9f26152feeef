"""Whether a generated picture shows what its prompt names, where it belongs.

The prompt is a caption of a held-out scene. Perception looks at the generated picture alone; the scene's hidden truth
says where each object that the caption names should lie, and is read only here, to score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from evaluation.boxes import Box, holds_point
from evaluation.intervals import Interval
from evaluation.metrics.scene_truth import Truth, mentions
from training.errors import FoundryError


@dataclass(frozen=True)
class Wanted:
    """An object that a prompt names: in the picture of ``sample_id`` its centre should lie in ``box_xyxy_norm``."""

    sample_id: str
    name: str
    box_xyxy_norm: Box


@dataclass(frozen=True)
class Found:
    """A region of a generated picture: the name that perception gives it first, its box and main colour word."""

    name: str
    box_xyxy_norm: Box
    color: str = ""

    @property
    def center(self) -> tuple[float, float]:
        """x and y of the box's middle, in [0, 1]."""
        x1, y1, x2, y2 = self.box_xyxy_norm
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True)
class Placement:
    """Shares of wanted objects. ``shown``: the picture has a region of that name; ``hit``: such a region's centre lies
    in the object's box. The floors are the same for the pictures of all other prompts: what a model scores that
    paints the usual things in the usual places whatever it is asked for."""

    shown: Interval
    hit: Interval
    shown_floor: float
    hit_floor: float
    num_objects: int


def wanted_objects(prompts: Mapping[str, str], truth: Mapping[str, Truth]) -> list[Wanted]:
    """The objects that each prompt names and its scene shows once, with their places."""
    wanted = []
    for sample_id, prompt in prompts.items():
        scene = truth[sample_id]
        names = [name for name, _ in scene.objects]
        named = mentions(prompt, scene.names)
        wanted += [
            Wanted(sample_id, name, box)
            for name, box in scene.objects
            if name in named and names.count(name) == 1
        ]
    return wanted


def score_placement(
    wanted: Sequence[Wanted], found: Mapping[str, Sequence[Found]], seed: int = 0
) -> Placement:
    """Score pictures; ``found`` has an entry (perhaps empty) for each. Intervals are bootstrap over pictures.

    Raises FoundryError when nothing is wanted or a picture was not looked at.
    """
    missing = sorted({item.sample_id for item in wanted} - set(found))
    if not wanted or missing:
        what = f"no regions of picture {missing[0]}" if missing else "no prompt that names an object"
        raise FoundryError(f"placement: found {what}; look at every generated picture of a captioned scene")
    pictures = sorted(found)
    shown, hit = (
        np.array([[test(item, found[p]) for p in pictures] for item in wanted], float)
        for test in (_shown, is_hit)
    )
    own = np.array([pictures.index(item.sample_id) for item in wanted])
    groups = [item.sample_id for item in wanted]
    return Placement(
        share_over_pictures(shown[np.arange(len(wanted)), own], groups, seed),
        share_over_pictures(hit[np.arange(len(wanted)), own], groups, seed),
        _off_own(shown, own),
        _off_own(hit, own),
        len(wanted),
    )


def _shown(wanted: Wanted, regions: Sequence[Found]) -> bool:
    return any(region.name == wanted.name for region in regions)


def is_hit(wanted: Wanted, regions: Sequence[Found]) -> bool:
    """Whether a region of the wanted name has its centre in the wanted box."""
    centers = (region.center for region in regions if region.name == wanted.name)
    return any(holds_point(wanted.box_xyxy_norm, center) for center in centers)


def _off_own(values: Float[ndarray, "n p"], own: ndarray) -> float:
    """Mean over the pictures of other prompts; 0 where there are none."""
    others = np.ones_like(values, dtype=bool)
    others[np.arange(len(values)), own] = False
    return float(values[others].mean()) if others.any() else 0.0


def share_over_pictures(values: Float[ndarray, " n"], groups: Sequence[str] | ndarray, seed: int) -> Interval:
    """Mean over objects, with a 95% interval from resampling pictures, whose objects are not independent.

    ``groups``: the picture of each.
    """
    _, own = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    return ratio_over_pictures(np.bincount(own, weights=values), np.bincount(own), seed)


def ratio_over_pictures(
    parts: Shaped[ndarray, " p"], wholes: Shaped[ndarray, " p"], seed: int = 0
) -> Interval:
    """Sum of ``parts`` over sum of ``wholes``, both counted by picture, with a 95% interval from resampling pictures."""
    drawn = np.random.default_rng(seed).multinomial(
        len(parts), np.full(len(parts), 1 / len(parts)), size=2000
    )
    low, high = np.quantile((drawn @ parts) / np.maximum(drawn @ wholes, 1), [0.025, 0.975])
    return Interval(float(parts.sum() / wholes.sum()), float(low), float(high), 0.95, len(parts))
