from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.entities.selection import (
    SELECTED_ENTITIES,
    entity_id,
    join_descriptions,
    select_entities,
)
from assets.graph.schemas import ENTITY_ANNOTATIONS, ENTITY_BOXES
from evaluation.tables.perception import DESCRIPTIONS
from training.errors import FoundryError

Box = list[float]


def boxes(*rows: dict[str, Any]) -> pa.Table:
    """An entity boxes table from what differs."""
    base = {
        "sample_id": "s", "box_index": 0, "phrase_index": 0, "phrase": "apple", "box_xyxy_norm": [0.0, 0.0, 0.5, 0.5],
        "score": 0.9, "name_score": 0.9, "model": "m", "model_digest": "d" * 64, "function_version": 1,
        "annotator": "embedded",
    }  # fmt: skip
    return pa.Table.from_pylist([{**base, **row} for row in rows], schema=ENTITY_BOXES)


def overlap(first: Box, second: Box) -> float:
    """IoU, slowly."""
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    total = area(first) + area(second) - width * height
    return width * height / total if total > 0 else 0.0


def area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def select_slowly(
    rows: list[dict[str, Any]], min_score: float, min_area: float, max_iou: float, least: int, most: int
) -> list[tuple[int, str, float]]:
    """(box_index, reason, overlap) of one sample's boxes, best first, one after the other."""
    answers: list[tuple[int, str, float]] = []
    kept: list[Box] = []
    for row in sorted(
        rows, key=lambda row: (-row["name_score"], -area(row["box_xyxy_norm"]), row["box_index"])
    ):
        largest = max((overlap(row["box_xyxy_norm"], better) for better in kept), default=0.0)
        if row["name_score"] < min_score:
            reason = "low_score"
        elif area(row["box_xyxy_norm"]) < min_area or area(row["box_xyxy_norm"]) == 0:
            reason = "too_small"
        elif largest > max_iou:
            reason = "overlapping"
        elif len(kept) >= most:
            reason = "too_many"
        else:
            reason = ""
            kept.append(row["box_xyxy_norm"])
        answers.append((row["box_index"], reason, largest))
    if len(kept) < least:
        answers = [(index, reason or "too_few", largest) for index, reason, largest in answers]
    return answers


_CORNERS = st.tuples(*[st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0])] * 4)
_BOXES = _CORNERS.map(lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])])
_ROW = st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), _BOXES, st.sampled_from([0.2, 0.5, 0.7, 0.9]))


@settings(deadline=None)
@given(
    st.lists(_ROW, max_size=14), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.3, 0.6, 1.0]), st.integers(0, 3), st.integers(3, 4), st.randoms(),
)  # fmt: skip
def test_selection_equals_the_slow_one_in_any_order(
    drawn: list[tuple[str, str, Box, float]],
    min_score: float, min_area: float, max_iou: float, least: int, most: int, random: Any,
) -> None:  # fmt: skip
    rows = [
        {"sample_id": sample, "annotator": annotator, "box_xyxy_norm": box, "name_score": score,
         "box_index": index, "phrase": f"thing {index}"}
        for index, (sample, annotator, box, score) in enumerate(drawn)
    ]  # fmt: skip
    table = boxes(*rows)
    exact = table.to_pylist()  # as float32 holds them
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    found = select_entities(
        table.take(pa.array(shuffled, pa.int64())), min_score, min_area, max_iou, least, most
    )
    assert found.num_rows == len(rows)
    assert found["keep"].to_pylist() == [not reason for reason in found["dropped_because"].to_pylist()]
    for group in sorted({(row["sample_id"], row["annotator"]) for row in exact}):
        own = [row for row in exact if (row["sample_id"], row["annotator"]) == group]
        expected = select_slowly(own, min_score, min_area, max_iou, least, most)
        got = [row for row in found.to_pylist() if (row["sample_id"], row["annotator"]) == group]
        assert [row["entity_index"] for row in got] == list(range(len(own)))
        assert [(row["phrase"], row["dropped_because"]) for row in got] == [
            (f"thing {index}", reason) for index, reason, _ in expected
        ]
        np.testing.assert_allclose(
            [row["overlap_iou"] for row in got], [iou for *_, iou in expected], atol=1e-6
        )


def test_every_reason_and_column_by_hand() -> None:
    found = select_entities(
        boxes(
            {"name_score": 0.8},
            {"box_xyxy_norm": [0.02, 0.0, 0.5, 0.5], "name_score": 0.95, "box_index": 1, "score": 0.3},
            {"box_xyxy_norm": [0.9, 0.9, 0.95, 0.95], "box_index": 2},
            {"box_xyxy_norm": [0.6, 0.0, 0.9, 0.3], "name_score": 0.2, "box_index": 3},
            {"box_xyxy_norm": [0.6, 0.6, 0.9, 0.9], "box_index": 4},
            {"box_xyxy_norm": [0.0, 0.6, 0.3, 0.9], "name_score": 0.6, "box_index": 5},
            {"sample_id": "t", "phrase": "alone"},
        ),
        min_entities=2, max_entities=2,
    )  # fmt: skip
    assert found.schema.equals(SELECTED_ENTITIES, check_metadata=True)
    reasons = ["", "", "too_small", "overlapping", "too_many", "low_score", "too_few"]
    assert found["dropped_because"].to_pylist() == reasons
    best = found.to_pylist()[0]
    assert (best["score"], best["detector_score"]) == (pytest.approx(0.95), pytest.approx(0.3))
    assert best["area_fraction"] == pytest.approx(0.24)
    assert best["entity_id"] == entity_id("s", "embedded", "apple", [0.02, 0.0, 0.5, 0.5])
    assert found["overlap_iou"][3].as_py() == pytest.approx(0.96)


def test_a_box_that_is_there_twice_counts_once_and_nonsense_is_dropped() -> None:
    twice = select_entities(boxes({"name_score": 0.6}, {"box_index": 1}, {"box_index": 2, "phrase": "pear"}))
    assert [(row["phrase"], row["dropped_because"]) for row in twice.to_pylist()] == [
        ("apple", ""), ("pear", "overlapping"),
    ]  # fmt: skip
    nan = float("nan")
    broken = boxes(
        {"name_score": nan, "phrase": "?"},
        {"box_xyxy_norm": [nan, 0, 1, 1], "box_index": 1},
        {"box_index": 2},
    )
    found = select_entities(broken, 0.0, 0.0)
    assert sorted(found["dropped_because"].to_pylist()) == ["", "low_score", "too_small"]
    assert not np.isnan(found["overlap_iou"].to_numpy()).any()
    assert (
        select_entities(boxes({"score": 0.4}), min_detector_score=0.5)["dropped_because"][0].as_py()
        == "low_score"
    )


def test_identity_is_the_digest_that_is_documented() -> None:
    box = np.array([0.1, 0.2, 0.3, 0.4], dtype="<f4").tobytes()
    expected = hashlib.sha256(box + "\0s\0grounding\0häuser".encode()).hexdigest()
    assert entity_id("s", "grounding", "häuser", [0.1, 0.2, 0.3, 0.4]) == expected


def descriptions(*identities: str) -> pa.Table:
    rows = [
        {"entity_id": identity, "description": f"of {identity[:4]}", "score": 0.75, "prompt": "p", "num_tokens": 2,
         "model": "describer", "model_digest": "e" * 64, "function_version": 3}
        for identity in identities
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=DESCRIPTIONS)


def test_descriptions_find_their_entities_and_dropped_ones_have_none() -> None:
    selected = select_entities(boxes({}, {"sample_id": "t"}, {"sample_id": "u", "name_score": 0.1}))
    first, missing, dropped = selected["entity_id"].to_pylist()
    joined = join_descriptions(selected, descriptions(dropped, first))
    assert joined.schema.equals(ENTITY_ANNOTATIONS, check_metadata=True)
    assert joined.select(SELECTED_ENTITIES.names) == selected
    told = joined.select(
        ["description", "description_score", "description_model", "description_digest"]
    ).to_pylist()
    assert tuple(told[0].values()) == (f"of {first[:4]}", 0.75, "describer", "e" * 64)
    assert [tuple(row.values()) for row in told[1:]] == [("", 0.0, "", "")] * 2
    assert missing != first
    with pytest.raises(FoundryError, match="two descriptions"):
        join_descriptions(selected, descriptions(first, first))


def test_bad_limits_and_tables_are_named() -> None:
    with pytest.raises(FoundryError, match=r"min_area is -0.1; allowed is 0 to 1"):
        select_entities(boxes({}), min_area=-0.1)
    with pytest.raises(FoundryError, match="max_entities is 2; allowed is 3 or more"):
        select_entities(boxes({}), min_entities=3, max_entities=2)
    with pytest.raises(FoundryError, match="min_entities is -1"):
        select_entities(boxes({}), min_entities=-1)
    with pytest.raises(FoundryError, match="boxes table lacks the columns annotator"):
        select_entities(boxes({}).drop_columns("annotator"))
    assert select_entities(boxes()).num_rows == 0


def test_slices_and_chunks_are_read_as_they_are() -> None:
    table = boxes(
        *(
            {"sample_id": str(index % 3), "box_index": index, "box_xyxy_norm": [0, 0, 0.1 * index, 0.5]}
            for index in range(8)
        )
    )
    assert select_entities(table.slice(3, 4)) == select_entities(boxes(*table.to_pylist()[3:7]))
    assert select_entities(pa.concat_tables([table.slice(4), table.slice(0, 4)])) == select_entities(table)
