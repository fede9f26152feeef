"""How far captions tell where things lie: the layouts of other scenes whose captions say the same of other things.

"A pig to the right of a heart" leaves the pig many places, so a model that draws perfectly what it is asked for does not
put every centre where the scene behind the caption has it. What it can reach is what other scenes reach, whose captions
have the same form: names and colours taken out, relations left in.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from evaluation.boxes import Box, holds_point
from evaluation.intervals import Interval
from evaluation.metrics.placement import Wanted, share_over_pictures
from evaluation.metrics.scene_truth import Truth
from evaluation.perception.embedded.colors import COLOR_WORDS

FEWEST_SCENES = 5
"""Of one form; a rarer one says nothing, and its objects are left out."""
_LEFT_OUT = re.compile(rf"\b(?:an?|the|and|{'|'.join(COLOR_WORDS)})\b")
_BACKGROUND = re.compile(r" on an? [\w\s-]*background\b")
_WORD = re.compile(r" with the word \w+\b")


def caption_form(caption: str, names: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """A caption with its things numbered, without colours, background and written word; and the names of the things.

    "a pink pig to the right of an orange heart on a gray background" is "<0> to right of <1>" of pig and heart.
    """
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    thing = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b") if names else re.compile(r"(?!)")
    rest = _BACKGROUND.sub("", _WORD.sub("", caption.lower()))
    things = tuple(dict.fromkeys(thing.findall(rest)))
    form = thing.sub(lambda found: f"<{things.index(found.group(1))}>", rest)
    return " ".join(_LEFT_OUT.sub(" ", form).split()), things


def centres_that_captions_allow(
    wanted: Sequence[Wanted],
    prompts: Mapping[str, str],
    captions: Mapping[str, str],
    truth: Mapping[str, Truth],
    seed: int = 0,
) -> Interval | None:
    """Share of wanted objects whose box holds the centre of the same thing in other scenes of their caption's form.

    ``prompts``: those of the wanted objects; ``captions``: of all scenes, from which those of the prompts are left out.
    None where no form has :data:`FEWEST_SCENES`. The interval is a bootstrap over pictures.
    """
    names = frozenset(name for scene in truth.values() for name in scene.names)
    layouts = _layouts_by_form({key: captions[key] for key in captions.keys() - prompts.keys()}, truth, names)
    shares, groups = [], []
    for item in wanted:
        form, things = caption_form(prompts[item.sample_id], names)
        others = layouts.get(form, [])
        if item.name in things and len(others) >= FEWEST_SCENES:
            place = things.index(item.name)
            shares.append(np.mean([_holds_centre(item.box_xyxy_norm, boxes[place]) for boxes in others]))
            groups.append(item.sample_id)
    return share_over_pictures(np.array(shares), groups, seed) if shares else None


def _layouts_by_form(
    captions: Mapping[str, str], truth: Mapping[str, Truth], names: Collection[str]
) -> dict[str, list[list[Box]]]:
    """Boxes of the things of every caption whose scene shows each of them once."""
    layouts: dict[str, list[list[Box]]] = defaultdict(list)
    for sample_id in sorted(captions.keys() & truth.keys()):
        form, things = caption_form(captions[sample_id], names)
        boxes = [[box for name, box in truth[sample_id].objects if name == thing] for thing in things]
        if things and all(len(of_thing) == 1 for of_thing in boxes):
            layouts[form].append([of_thing[0] for of_thing in boxes])
    return layouts


def _holds_centre(box: Box, other: Box) -> bool:
    return holds_point(box, ((other[0] + other[2]) / 2, (other[1] + other[3]) / 2))
