from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.entities.annotate import annotate, intersection_over_union
from assets.schemas import ENTITY_ANNOTATIONS
from tests.assets.captions.test_recaption import regions
from training.errors import FoundryError

WIDE = [0.0, 0.0, 0.5, 0.5]


def entity(index: int, box: list[float], score: float = 0.9, **other: Any) -> dict[str, Any]:
    return {"sample_id": "s", "region_index": index, "box_xyxy_norm": box, "name_scores": [score], **other}


def test_every_reason_is_given_and_rows_keep_their_order() -> None:
    table = annotate(
        regions(
            entity(0, WIDE, 0.8),
            entity(1, [0.02, 0.0, 0.5, 0.5], 0.95),
            entity(2, [0.9, 0.9, 0.95, 0.95]),
            entity(3, [0.6, 0.0, 0.9, 0.3], 0.2),
            entity(4, [0.6, 0.6, 0.9, 0.9], 0.9),
            entity(5, [0.0, 0.6, 0.3, 0.9], 0.6),
        ),
        max_entities=2,
    )
    assert table.schema.equals(ENTITY_ANNOTATIONS, check_metadata=True)
    reasons = table["dropped_because"].to_pylist()
    assert reasons == ["overlapping", "", "too_small", "low_score", "", "too_many"]
    assert table["keep"].to_pylist() == [not reason for reason in reasons]
    assert table["entity_index"].to_pylist() == list(range(6))


def test_phrases_and_descriptions_say_what_was_measured() -> None:
    word = entity(1, [0.0, 0.9, 1.0, 1.0], names=[], text="STOP", text_score=0.7, color="white")
    named, read, unnamed = annotate(
        regions(entity(0, WIDE), word, {**entity(2, WIDE), "names": [], "name_scores": []})
    ).to_pylist()
    assert (named["phrase"], named["description"]) == (
        "red apple",
        "a red apple at the top left, filling much of the picture",
    )
    assert read["description"] == 'the word "STOP" in white letters at the bottom'
    assert read["score"] == pytest.approx(0.7)
    assert (unnamed["phrase"], unnamed["dropped_because"]) == ("red object", "low_score")


def test_thresholds_are_part_of_the_key() -> None:
    rows = regions(entity(0, WIDE))
    digests = {annotate(rows, min_score=score)["model_digest"][0].as_py() for score in (0.1, 0.2)}
    assert len(digests) == 2


_CORNER = st.floats(0, 1, allow_subnormal=False)


@given(st.tuples(_CORNER, _CORNER, _CORNER, _CORNER), st.tuples(_CORNER, _CORNER, _CORNER, _CORNER))
def test_overlap_is_symmetric_and_bounded(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    boxes = [[min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])] for b in (first, second)]
    overlap = intersection_over_union(boxes[0], boxes[1])
    assert overlap == pytest.approx(intersection_over_union(boxes[1], boxes[0]))
    assert 0 <= overlap <= 1 + 1e-9


def test_overlap_by_hand() -> None:
    assert intersection_over_union([0, 0, 1, 1], [0, 0, 1, 1]) == 1
    assert intersection_over_union([0, 0, 0.5, 1], [0.25, 0, 0.75, 1]) == pytest.approx(1 / 3)
    assert intersection_over_union([0, 0, 0, 0], [0, 0, 0, 0]) == 0


def test_bad_limits_are_named() -> None:
    with pytest.raises(FoundryError, match=r"min_area is -0.1; allowed is 0 to 1"):
        annotate(regions(entity(0, WIDE)), min_area=-0.1)
    with pytest.raises(FoundryError, match="max_entities is 0"):
        annotate(regions(entity(0, WIDE)), max_entities=0)
    assert annotate(regions()).num_rows == 0
