from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evaluation.metrics.agreement import annotator_agreement, cohens_kappa
from evaluation.metrics.attributes import attribute_scores, stated
from evaluation.metrics.entity_scores import METRICS, entity_scores
from evaluation.metrics.grouped_counts import SCORES
from training.errors import FoundryError

LEFT, RIGHT, WORD = [0.0, 0.0, 0.4, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.8, 0.4, 1.0]


def _entity(sample_id: str, phrase: str, box: list[float], **more: str) -> dict[str, Any]:
    return {"sample_id": sample_id, "phrase": phrase, "box_xyxy_norm": box, **more}


def _scene(sample_id: str, objects: list[tuple[str, list[float]]], word: str = "") -> dict[str, Any]:
    drawn = [{"name": name, "box_xyxy_norm": box} for name, box in objects]
    return {
        "sample_id": sample_id,
        "objects": drawn,
        "word": word,
        "word_box_xyxy_norm": WORD if word else None,
        "background": "plain blue",
    }


TRUTH = pa.Table.from_pylist(
    [
        _scene("b", [("apple", LEFT)]),
        _scene("a", [("apple", LEFT), ("red heart", RIGHT)], "STOP"),
        _scene("c", [("drum", RIGHT)]),
    ]
)
ENTITIES = pa.Table.from_pylist(
    [
        _entity("a", "a red apple", LEFT),
        _entity("a", "a drum", RIGHT),  # right place, wrong name
        _entity("a", "the sign", WORD),  # on the word: neither right nor wrong
        _entity("b", "two apples", [0.6, 0.0, 1.0, 0.4]),  # right name, wrong place
    ]
)


def _value(table: pa.Table, metric: str, group: str = "all", system: str = "perceived") -> float | None:
    (value,) = [
        row["value"]
        for row in table.to_pylist()
        if (row["metric"], row["group"], row["system"]) == (metric, group, system)
    ]
    return value


def test_every_figure_by_hand() -> None:
    table = entity_scores(ENTITIES, TRUTH, ["a", "b", "c", "not in the truth"], ["drum"])
    assert table.schema.equals(SCORES, check_metadata=True)
    expected = {
        "object_precision": 2 / 3,  # in a: apple, not drum; in b: apple
        "object_recall": 2 / 4,
        "box_precision": 2 / 3,
        "box_recall": 2 / 4,
        "box_mean_iou": 1.0,
        "named_box_precision": 1 / 3,
        "named_box_recall": 1 / 4,
    }
    assert {metric: _value(table, metric) for metric in METRICS} == pytest.approx(expected)
    assert _value(table, "box_recall", "held_out_concepts") == 0.0  # c was annotated, with nothing
    assert _value(table, "box_recall", "training_concepts") == pytest.approx(2 / 3)
    assert (_value(table, "box_recall", "1 object"), _value(table, "box_recall", "2 objects")) == (0.0, 1.0)
    for metric in METRICS:
        assert _value(table, metric, system="oracle") == 1.0


def test_chance_is_what_was_said_of_other_images() -> None:
    table = entity_scores(ENTITIES, TRUTH, ["a", "b"])
    # a is given b's box, which matches nothing there; b is given a's three, of which the apple's matches
    assert _value(table, "box_precision", system="chance") == pytest.approx(1 / 4)
    assert _value(table, "named_box_recall", system="chance") == pytest.approx(1 / 3)


def test_missing_columns_are_named() -> None:
    with pytest.raises(FoundryError, match="entities table lacks the columns phrase"):
        entity_scores(ENTITIES.drop_columns(["phrase"]), TRUTH, ["a"])


VOCABULARY = {"color": ("red", "blue", "gray"), "shape": ("round", "square")}
DRAWN = {"apple": {"color": "red", "shape": "round"}, "red heart": {"color": "red", "shape": "square"}}


def test_attributes_count_where_a_box_matches() -> None:
    described = pa.Table.from_pylist(
        [
            _entity("a", "a red apple", LEFT, description="a round thing that is not blue"),
            _entity("a", "a thing", RIGHT, description="grey, as round as can be"),
            _entity("b", "a blue thing", RIGHT, description="square"),  # no object there
            _entity("c", "a drum", RIGHT, description="blue"),  # not among the drawings
        ]
    )
    table = attribute_scores(described, TRUTH, DRAWN, VOCABULARY, ["red heart"])
    assert _value(table, "color_accuracy") == 0.0  # the description comes before the phrase: blue, gray
    assert _value(table, "shape_accuracy") == pytest.approx(1 / 2)
    assert _value(table, "color_stated") == 1.0
    # stated round twice; true are round and square: independent draws agree half the time
    assert _value(table, "shape_accuracy", system="chance") == pytest.approx(1 / 2)
    assert _value(table, "shape_accuracy", "held_out_concepts") == 0.0
    assert _value(table, "shape_accuracy", "1 object") is None


def test_the_first_word_that_stands_as_a_word_counts() -> None:
    assert stated("A Grey-blue bird", ["blue", "gray"]) == "gray"
    assert stated("blueish", ["blue"]) == ""


def _boxes(*rows: tuple[str, str, str, list[float]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"sample_id": sample_id, "annotator": annotator, "phrase": phrase, "box_xyxy_norm": box}
            for sample_id, annotator, phrase, box in rows
        ]
    )


def test_agreement_by_hand_and_symmetric() -> None:
    rows = [
        ("a", "one", "apple", LEFT),
        ("a", "one", "heart", RIGHT),
        ("a", "two", "apple", [0.0, 0.0, 0.4, 0.4]),
        ("b", "two", "drum", RIGHT),
    ]
    (found,) = annotator_agreement(_boxes(*rows), str.lower)
    assert found.box_f1 is not None
    assert found.mean_iou is not None
    assert found.label_agreement is not None
    assert found.box_f1.value == pytest.approx(2 / 4)
    assert found.mean_iou.value == pytest.approx(0.8)
    assert (found.label_agreement.value, found.num_images, found.num_matched) == (1.0, 2, 1)
    swapped = [
        (s, {"one": "two", "two": "one"}[annotator], phrase, box) for s, annotator, phrase, box in rows
    ]
    (other,) = annotator_agreement(_boxes(*swapped), str.lower)
    assert vars(other) == vars(found)


def test_one_annotator_agrees_with_nobody() -> None:
    assert annotator_agreement(_boxes(("a", "one", "apple", LEFT)), str.lower) == []


def test_annotators_that_share_nothing_have_no_labels_to_compare() -> None:
    (found,) = annotator_agreement(_boxes(("a", "one", "x", LEFT), ("a", "two", "x", RIGHT)), str.lower)
    assert found.box_f1 is not None
    assert (found.box_f1.value, found.mean_iou, found.label_agreement, found.label_kappa) == (
        0.0,
        None,
        None,
        None,
    )


def test_kappa_is_nothing_for_independent_labels_and_one_for_equal_ones() -> None:
    random = np.random.default_rng(0)
    ones, others = random.integers(0, 4, (2, 4000)).astype(str)
    assert cohens_kappa(list(zip(ones, others, strict=True))) == pytest.approx(0.0, abs=0.03)
    assert cohens_kappa([("a", "a"), ("b", "b")]) == 1.0
    assert cohens_kappa([("a", "a")]) is None
    # by hand: observed 2/4; expected (3/4)(2/4) + (1/4)(2/4) = 1/2
    assert cohens_kappa([("a", "a"), ("a", "a"), ("a", "b"), ("b", "b")]) == pytest.approx(0.5)
