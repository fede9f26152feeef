"""What is named and where it lies is counted per object, against pictures of other prompts as the floor."""

from __future__ import annotations

import pytest

from evaluation.metrics.placement import Found, Wanted, score_placement, wanted_objects
from evaluation.metrics.scene_truth import Truth
from training.errors import FoundryError

LEFT, RIGHT = (0.1, 0.3, 0.4, 0.6), (0.6, 0.3, 0.9, 0.6)


def truth(*objects: tuple[str, tuple[float, ...]]) -> Truth:
    return Truth(objects, "", None, frozenset())


def test_only_what_the_prompt_names_once_is_wanted() -> None:
    scenes = {
        "a": truth(("sun", LEFT), ("sunflower", RIGHT)),
        "b": truth(("apple", LEFT), ("apple", RIGHT), ("pig", LEFT)),
    }
    prompts = {"a": "a yellow sunflower on a red background", "b": "two apples and a pig"}
    assert wanted_objects(prompts, scenes) == [Wanted("a", "sunflower", RIGHT), Wanted("b", "pig", LEFT)]


def test_hits_need_name_and_place() -> None:
    wanted = [Wanted("a", "pig", LEFT), Wanted("b", "pig", LEFT), Wanted("c", "sun", RIGHT)]
    found = {
        "a": [Found("pig", (0.2, 0.4, 0.3, 0.5))],
        "b": [Found("pig", RIGHT), Found("sun", LEFT)],
        "c": [Found("moon", RIGHT)],
    }
    score = score_placement(wanted, found)
    assert score.shown.value == pytest.approx(2 / 3)
    assert score.hit.value == pytest.approx(1 / 3)
    # Six pairs of an object with another's picture: both pigs in the other's, and the sun in b.
    assert score.shown_floor == pytest.approx(3 / 6)
    assert score.hit_floor == pytest.approx(1 / 6)
    assert score.num_objects == 3
    assert score.hit.low <= score.hit.value <= score.hit.high


def test_pictures_are_resampled_not_objects() -> None:
    wanted = [Wanted(str(picture), f"thing {number}", LEFT) for picture in range(6) for number in range(50)]
    found = {
        str(picture): [Found(f"thing {number}", LEFT) for number in range(50)] if picture < 3 else []
        for picture in range(6)
    }
    hit = score_placement(wanted, found).hit
    assert hit.value == 0.5
    assert hit.high - hit.low > 0.5  # six pictures, not 300 objects


def test_a_picture_nobody_looked_at_is_told() -> None:
    with pytest.raises(FoundryError, match="no regions of picture a"):
        score_placement([Wanted("a", "pig", LEFT)], {})
    with pytest.raises(FoundryError, match="no prompt that names an object"):
        score_placement([], {})
