"""Whether a colour that a prompt gives to one object lands on that object and not on its neighbour.

Only concepts of several colours can tell: where every frog is green, a green frog shows nothing. The sharpest case are
twins, one silhouette in two colours in one picture: a model that paints both hearts at their places with colours
exchanged has read all words and bound none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.boxes import Box, holds_point
from evaluation.intervals import Interval
from evaluation.metrics.placement import Found, share_over_pictures
from evaluation.metrics.scene_truth import Truth, mentions


@dataclass(frozen=True)
class Colored:
    """An object whose colour the prompt says: of ``name``, it should be ``color`` in ``box_xyxy_norm``.

    ``twin_color``: what the prompt gives to another object of this name in the same picture, or empty.
    """

    sample_id: str
    name: str
    color: str
    box_xyxy_norm: Box
    twin_color: str = ""


@dataclass(frozen=True)
class Binding:
    """Of objects that are drawn at their place, the share in their own colour.

    ``floor``: the same for colours that other prompts give to objects of the name, exchanged at random. ``twins``: the
    share among twins, None without any; ``twins_exchanged``: the share of twins in the colour of the other one.
    """

    own_color: Interval
    floor: float
    num_objects: int
    twins: Interval | None
    twins_exchanged: float
    num_twins: int


def colored_objects(prompts: Mapping[str, str], truth: Mapping[str, Truth]) -> list[Colored]:
    """The objects of concepts of several colours that each prompt names with their colour, where that tells one."""
    colored = []
    for sample_id, prompt in prompts.items():
        scene = truth[sample_id]
        looks = list(zip(scene.objects, scene.looks, strict=False))
        asked = mentions(prompt, {look.phrase for (name, _), look in looks if look.phrase != name})
        times = Counter(look.phrase for _, look in looks)
        named = [
            (name, look.color, box)
            for (name, box), look in looks
            if look.phrase in asked and times[look.phrase] == 1
        ]
        for name, color, box in named:
            twins = [other for kind, other, place in named if kind == name and place != box]
            colored.append(Colored(sample_id, name, color, box, twins[0] if twins else ""))
    return colored


def score_binding(
    colored: Sequence[Colored], found: Mapping[str, Sequence[Found]], seed: int = 0
) -> Binding | None:
    """Score pictures; None when no object of those is drawn at its place. Intervals are bootstrap over pictures."""
    drawn = [(item, color) for item in colored if (color := _color_at_place(item, found[item.sample_id]))]
    if not drawn:
        return None
    right = np.array([color == item.color for item, color in drawn], float)
    is_twin = np.array([bool(item.twin_color) for item, _ in drawn])
    exchanged = np.array([color == item.twin_color for item, color in drawn], float)
    groups = np.array([item.sample_id for item, _ in drawn], dtype=object)
    return Binding(
        share_over_pictures(right, groups, seed),
        _exchanged_at_random(drawn),
        len(drawn),
        share_over_pictures(right[is_twin], groups[is_twin], seed) if is_twin.any() else None,
        float(exchanged[is_twin].mean()) if is_twin.any() else 0.0,
        int(is_twin.sum()),
    )


def _color_at_place(colored: Colored, regions: Sequence[Found]) -> str:
    """Main colour of the region of that name whose centre lies in the box and nearest to its middle, or empty."""
    x1, y1, x2, y2 = colored.box_xyxy_norm
    inside = [
        region
        for region in regions
        if region.name == colored.name and holds_point(colored.box_xyxy_norm, region.center)
    ]
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    return min(inside, key=lambda region: float(np.hypot(*(region.center - middle)))).color if inside else ""


def _exchanged_at_random(drawn: Sequence[tuple[Colored, str]]) -> float:
    """Mean share of objects in the colour asked of a random object of the same name, another or itself."""
    asked: dict[str, Counter[str]] = {}
    for item, _ in drawn:
        asked.setdefault(item.name, Counter())[item.color] += 1
    return float(np.mean([asked[item.name][color] / asked[item.name].total() for item, color in drawn]))
