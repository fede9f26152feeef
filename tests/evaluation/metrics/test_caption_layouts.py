"""What captions leave open is told by other scenes, and a caption that tells the place leaves nothing open."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.caption_layouts import FEWEST_SCENES, caption_form, centres_that_captions_allow
from evaluation.metrics.placement import Wanted
from evaluation.metrics.scene_truth import Truth

NAMES = ("pig", "heart", "sun", "sunflower")
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("caption", "form", "things"),
    [
        ("a pink pig to the right of an orange heart on a gray background", "<0> to right of <1>", ("pig", "heart")),
        ("a yellow sunflower at the top on a two-tone red and teal background", "<0> at top", ("sunflower",)),
        ("A sun above a pig, a heart below the pig with the word ZOO", "<0> above <1>, <2> below <1>", ("sun", "pig", "heart")),
        ("nothing known", "nothing known", ()),
    ],
)  # fmt: skip
def test_forms(caption: str, form: str, things: tuple[str, ...]) -> None:
    assert caption_form(caption, NAMES) == (form, things)


def _scene(*objects: tuple[str, tuple[float, float, float, float]]) -> Truth:
    return Truth(objects, "", None, frozenset())


def test_the_share_is_that_of_the_other_scenes_of_the_form() -> None:
    """Two thirds of the pigs "next to" something lie left: a perfect painter of such captions hits the left two times in
    three; said to be left, it always does."""
    random = np.random.default_rng(0)
    places = [LEFT] * 200 + [RIGHT] * 100
    truth = {f"s{index}": _scene(("pig", place), ("sun", (0, 0, 1, 1))) for index, place in enumerate(places)}
    captions = dict.fromkeys(truth, "a pink pig next to a yellow sun")
    for index in range(20):
        truth[f"l{index}"], captions[f"l{index}"] = _scene(("heart", LEFT)), "a red heart on the left"
    truth |= {"open": _scene(("pig", LEFT)), "told": _scene(("pig", LEFT)), "rare": _scene(("pig", LEFT))}
    prompts = {"open": "a heart next to a pig", "told": "a pig on the left", "rare": "a pig inside a sun"}
    captions |= prompts
    wanted = [Wanted("open", "heart", LEFT), Wanted("told", "pig", LEFT), Wanted("rare", "pig", LEFT)]
    shuffled = {key: captions[key] for key in random.permutation(list(captions)).tolist()}
    found = centres_that_captions_allow(wanted, prompts, shuffled, truth)
    assert found is not None
    assert found.value == pytest.approx((200 / 300 + 1) / 2)
    told = centres_that_captions_allow(wanted[1:2], prompts, captions, truth)
    assert told is not None
    assert told.value == 1.0
    assert centres_that_captions_allow(wanted[2:], prompts, captions, truth) is None


def test_scenes_of_the_prompts_themselves_and_things_shown_twice_tell_nothing() -> None:
    truth = {f"s{index}": _scene(("pig", LEFT), ("pig", RIGHT)) for index in range(2 * FEWEST_SCENES)}
    captions = dict.fromkeys(truth, "a pink pig in the middle")
    wanted = [Wanted("p", "pig", LEFT)]
    prompts = {"p": "a pink pig in the middle"}
    assert (
        centres_that_captions_allow(wanted, prompts, captions | prompts, truth | {"p": _scene(("pig", LEFT))})
        is None
    )
    own = {f"s{index}": _scene(("pig", LEFT)) for index in range(2 * FEWEST_SCENES)}
    assert centres_that_captions_allow([Wanted("s0", "pig", LEFT)], captions, captions, own) is None
