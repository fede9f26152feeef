"""Objects in their box, by picture, against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.objects_in_box import counts_in_box, share_in_box
from evaluation.metrics.placement import Found, Wanted
from training.errors import FoundryError

LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)


def test_only_the_named_object_with_its_centre_in_the_box_counts() -> None:
    wanted = [Wanted("a", "pig", LEFT), Wanted("a", "cow", RIGHT), Wanted("b", "pig", RIGHT)]
    found = {
        "a": [Found("pig", (0.1, 0.2, 0.5, 0.8)), Found("pig", RIGHT), Found("dog", RIGHT)],
        "b": [Found("pig", (0.3, 0.0, 0.7, 1.0))],  # reaches into the box, its centre does not
        "c": [Found("pig", LEFT)],  # nothing was told of it
    }
    counts = counts_in_box(["a", "b", "c"], wanted, found)
    assert counts.tolist() == [[1, 2], [0, 1], [0, 0]]
    share = share_in_box(counts)
    assert share.value == pytest.approx(1 / 3)
    assert share.low <= share.value <= share.high
    assert share.count == 2  # pictures of which anything was told


def test_where_nothing_is_told_there_is_no_share() -> None:
    with pytest.raises(FoundryError, match="no told phrase means an object"):
        share_in_box(np.zeros((3, 2), np.int64))
