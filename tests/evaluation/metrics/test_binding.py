"""Colours that a prompt gives to objects are sought on those objects, by hand-made scenes and on composed ones."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.binding import Colored, colored_objects, score_binding
from evaluation.metrics.placement import Found
from evaluation.metrics.scene_truth import TrueLook, Truth

LEFT, RIGHT = (0.1, 0.3, 0.4, 0.6), (0.6, 0.3, 0.9, 0.6)
RED, BLUE = TrueLook("red", "red heart"), TrueLook("blue", "blue heart")
TWINS = Truth((("heart", LEFT), ("heart", RIGHT)), "", None, frozenset(), (RED, BLUE))


def test_only_colours_that_the_prompt_says_and_that_tell_one_object_are_sought() -> None:
    pig = Truth((("pig", LEFT), ("heart", RIGHT)), "", None, frozenset(), (TrueLook("pink", "pig"), RED))
    same = Truth((("heart", LEFT), ("heart", RIGHT)), "", None, frozenset(), (RED, RED))
    prompts = {
        "twins": "a red heart to the left of a blue heart",
        "one": "a red heart on a blue background",
        "pig": "a pink pig to the left of a red heart",
        "same": "two hearts, a red heart above a red heart",
        "none": "a heart",
        "old": "a red heart",
    }
    old = Truth((("heart", LEFT),), "", None, frozenset())  # from before concepts had several colours
    truth = {"twins": TWINS, "one": TWINS, "pig": pig, "same": same, "none": TWINS, "old": old}
    assert colored_objects(prompts, truth) == [
        Colored("twins", "heart", "red", LEFT, "blue"),
        Colored("twins", "heart", "blue", RIGHT, "red"),
        Colored("one", "heart", "red", LEFT),
        Colored("pig", "heart", "red", RIGHT),
    ]


def test_a_model_that_exchanges_colours_is_told_from_one_that_binds() -> None:
    colored = [Colored("a", "heart", "red", LEFT, "blue"), Colored("a", "heart", "blue", RIGHT, "red")]
    bound = score_binding(
        colored,
        {"a": [Found("heart", LEFT, "red"), Found("heart", RIGHT, "blue"), Found("pig", LEFT, "pink")]},
    )
    exchanged = score_binding(colored, {"a": [Found("heart", LEFT, "blue"), Found("heart", RIGHT, "red")]})
    assert bound is not None
    assert bound.twins is not None
    assert exchanged is not None
    assert exchanged.twins is not None
    assert (bound.own_color.value, bound.twins.value, bound.twins_exchanged) == (1.0, 1.0, 0.0)
    assert (exchanged.own_color.value, exchanged.twins.value, exchanged.twins_exchanged) == (0.0, 0.0, 1.0)
    assert bound.floor == exchanged.floor == 0.5
    assert (bound.num_objects, bound.num_twins) == (2, 2)


def test_what_is_not_drawn_at_its_place_says_nothing_of_colours() -> None:
    colored = [Colored("a", "heart", "red", LEFT), Colored("b", "heart", "blue", LEFT)]
    found = {
        "a": [Found("heart", LEFT, "red"), Found("heart", (0.0, 0.2, 0.3, 0.5), "blue")],
        "b": [Found("heart", RIGHT, "red")],
    }
    score = score_binding(colored, found)
    assert score is not None
    assert (score.own_color.value, score.num_objects, score.twins) == (1.0, 1, None)
    assert score_binding(colored, {"a": [], "b": [Found("pig", LEFT, "blue")]}) is None


@pytest.mark.parametrize("skill", [0.0, 0.7])
def test_the_floor_is_what_colours_without_any_binding_score(skill: float) -> None:
    random = np.random.default_rng(0)
    colors, drawn = (random.choice(["red", "green", "blue"], 3000, p=[0.6, 0.3, 0.1]) for _ in range(2))
    drawn = np.where(random.random(3000) < skill, colors, drawn)
    colored = [Colored(str(index), "heart", color, LEFT) for index, color in enumerate(colors)]
    score = score_binding(
        colored, {str(index): [Found("heart", LEFT, color)] for index, color in enumerate(drawn)}
    )
    assert score is not None
    chance = 0.6**2 + 0.3**2 + 0.1**2
    assert score.floor == pytest.approx(chance, abs=0.03)
    assert score.own_color.value == pytest.approx(skill + (1 - skill) * chance, abs=0.03)
