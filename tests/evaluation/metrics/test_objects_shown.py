"""Objects that prompts name and pictures show, counted by picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics.objects_shown import LookedFor, share_shown
from evaluation.metrics.placement import Found, Wanted, score_placement
from training.errors import FoundryError

NAMES = ("pig", "heart", "cat", "cactus")
PICTURES = st.lists(
    st.tuples(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES))), min_size=1, max_size=8
)


@given(PICTURES)
def test_counts_are_those_of_placement(pictures: list[tuple[set[str], set[str]]]) -> None:
    wanted = [sorted(names) for names, _ in pictures]
    looked = LookedFor(wanted, [found for _, found in pictures])
    box = (0.0, 0.0, 1.0, 1.0)
    items = [Wanted(str(row), name, box) for row, names in enumerate(wanted) for name in names]
    if not items:
        with pytest.raises(FoundryError, match="no prompt names an object"):
            share_shown(looked.counts())
        return
    found = {str(row): [Found(name, box) for name in names] for row, (_, names) in enumerate(pictures)}
    assert share_shown(looked.counts()).value == pytest.approx(score_placement(items, found).shown.value)


def test_pictures_that_want_nothing_say_nothing() -> None:
    asked = np.array([[1, 2], [0, 1], [3, 3]])
    among = np.array([[1, 2], [0, 0], [0, 1], [3, 3], [0, 0]])
    assert share_shown(among) == share_shown(asked)
    assert share_shown(asked).value == pytest.approx(4 / 6)
    assert share_shown(asked).count == 3
