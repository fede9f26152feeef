"""A judge is scored by hidden truth: it gets questions, never the answers."""

from __future__ import annotations

import pytest

from evaluation.benchmarks.agreement import color_samples, judge_agreement, truth_samples
from evaluation.metrics.scene_truth import TrueLook, Truth
from evaluation.perception.questions import Asked
from evaluation.tables.layout_eval import JUDGE_AGREEMENT
from tests.evaluation.benchmarks.makers import judge
from training.errors import FoundryError

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def _scene(*objects: tuple[str, str]) -> Truth:
    boxes = (LEFT, RIGHT)
    return Truth(
        tuple((name, box) for (name, _), box in zip(objects, boxes, strict=False)),
        "",
        None,
        frozenset(),
        tuple(TrueLook(color, f"{color} {name}".strip()) for name, color in objects),
    )


TRUTH = {
    "s1": _scene(("apple", "red"), ("dog", "")),
    "s2": _scene(("tree", "green")),
    "s3": _scene(("dog", "brown"), ("apple", "red")),
}
PICTURES = dict.fromkeys(TRUTH, b"")


def test_questions_of_both_sides() -> None:
    right = {s.image_id: [b.phrase for b in s.boxes] for s in truth_samples(TRUTH, "yes")}
    assert right == {
        "s1": ["a red apple", "a dog"],
        "s2": ["a green tree"],
        "s3": ["a brown dog", "a red apple"],
    }
    for one in truth_samples(TRUTH, "no"):
        shown = TRUTH[one.image_id].names
        assert all(not any(name in box.phrase for name in shown) for box in one.boxes)
        assert [box.box_xyxy_norm for box in one.boxes] == [box for _, box in TRUTH[one.image_id].objects]
    assert truth_samples(TRUTH, "no") == truth_samples(TRUTH, "no")
    colored = color_samples(TRUTH, "yes")
    assert [(s.image_id, [b.detail for b in s.boxes]) for s in colored] == [
        ("s1", ["a red apple"]), ("s2", ["a green tree"]), ("s3", ["a brown dog", "a red apple"]),
    ]  # fmt: skip
    wrong = [b.detail for s in color_samples(TRUTH, "no") for b in s.boxes]
    assert not set(wrong) & {"a red apple", "a green tree", "a brown dog"}


def test_who_always_says_yes_is_right_on_one_side_alone() -> None:
    found = judge_agreement(TRUTH, PICTURES, judge(lambda *_: "Yes"))
    assert found.schema.equals(JUDGE_AGREEMENT, check_metadata=True)
    rows = {(row["question"], row["side"]): row for row in found.to_pylist()}
    assert {key: row["accuracy"] for key, row in rows.items()} == {
        ("spatial", "yes"): 1.0, ("color", "yes"): 1.0, ("spatial", "no"): 0.0, ("color", "no"): 0.0,
    }  # fmt: skip
    assert (rows["spatial", "yes"]["num_questions"], rows["color", "yes"]["num_questions"]) == (5, 4)
    assert rows["spatial", "no"]["num_pictures"] == 3


def test_a_judge_that_finds_nothing_is_asked_no_colour() -> None:
    rows = judge_agreement(TRUTH, PICTURES, judge(lambda *_: "No")).to_pylist()
    assert [(row["question"], row["side"], row["accuracy"]) for row in rows] == [
        ("spatial", "yes", 0.0), ("spatial", "no", 1.0),
    ]  # fmt: skip


def test_one_that_sees_apples_alone() -> None:
    def say(asked: Asked, image: bytes, place: list[float]) -> str:
        return "Yes" if "apple" in asked.region else "No"

    rows = {(r["question"], r["side"]): r for r in judge_agreement(TRUTH, PICTURES, judge(say)).to_pylist()}
    assert rows["spatial", "yes"]["accuracy"] == pytest.approx(2 / 5)
    assert (
        0 <= rows["spatial", "yes"]["accuracy_low"] <= 2 / 5 <= rows["spatial", "yes"]["accuracy_high"] <= 1
    )


def test_nothing_to_ask() -> None:
    empty = {"s": Truth((), "STOP", None, frozenset())}
    with pytest.raises(FoundryError, match="found no scene with an object"):
        judge_agreement(empty, {"s": b""}, judge(lambda *_: "Yes"))
    alone = {"s": _scene(("apple", "red"))}
    assert truth_samples(alone, "no") == [], "nothing else is known that it does not show"
