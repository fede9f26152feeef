"""Whether objects lie where boxes say: a model that follows, one that does not, and what is never asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assets.layout import scores
from assets.layout.held_out import HeldOutLayouts, Way
from evaluation.metrics.placement import Found
from evaluation.metrics.scene_truth import Truth
from training.layout.entities import Entity, Layout

LEFT, RIGHT, BELOW = (0.0, 0.2, 0.4, 0.6), (0.6, 0.2, 1.0, 0.6), (0.3, 0.7, 0.7, 1.0)


def truth(*objects: tuple[str, tuple[float, ...]]) -> Truth:
    return Truth(objects, "", None, frozenset())


LAYOUTS = HeldOutLayouts(
    pa.table({"sample_id": ["a", "b"], "row": [0, 1]}),
    (
        Layout("a car", (Entity("a red car", LEFT), Entity("something", BELOW))),
        Layout("a dog", (Entity("a dog", RIGHT),)),
    ),
)
TRUTHS = {
    "a": truth(("car", (0.02, 0.22, 0.4, 0.6)), ("tree", (0.9, 0.9, 1.0, 1.0))),
    "b": truth(("dog", RIGHT)),
}


def test_a_told_entity_is_called_what_the_object_in_its_box_is() -> None:
    told = scores.wanted_of(LAYOUTS, TRUTHS, "told")
    assert [(item.sample_id, item.name, item.box_xyxy_norm) for item in told] == [
        ("a", "car", LEFT),
        ("b", "dog", RIGHT),
    ]  # what no true object lies in is not asked for
    exchanged = scores.wanted_of(LAYOUTS, TRUTHS, "exchanged")
    assert [item.box_xyxy_norm for item in exchanged] == [
        pytest.approx((0.6, 0.2, 1.0, 0.6)),
        pytest.approx((0.0, 0.2, 0.4, 0.6)),
    ]


class Store:
    """Holds the truth."""

    def current(self, name: str) -> bool | None:
        return True if name == "scene_truth" else None

    def read_table(self, name: str) -> str:
        return name


class Seeing:
    """Perception with a recogniser, or without one."""

    def __init__(self, *, empty: bool = False) -> None:
        self._empty = empty

    def model(self, role: str) -> str | None:
        return None if self._empty else role


def in_boxes(images: np.ndarray) -> dict[str, list[Found]]:
    """What would be seen: the first pixel says whether things lie as told, exchanged, or not at all."""
    how = int(images[0, 0, 0, 0])
    boxes = {0: (RIGHT, LEFT), 1: (LEFT, RIGHT)}.get(how)
    if boxes is None:
        return {"a": [], "b": [Found("tree", RIGHT)]}
    return {"a": [Found("car", boxes[0])], "b": [Found("dog", boxes[1])]}


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "read_truth", lambda table: TRUTHS)
    monkeypatch.setattr(scores, "look_at", lambda images, ids, perception, role: in_boxes(images))


def pictures(how: int) -> np.ndarray:
    return np.full((2, 4, 4, 3), how, np.uint8)


ABOUT = {
    "recipe": "r", "model_digest": "d" * 64, "judged_by": "a bank", "num_pictures": 2, "num_steps": 4, "guidance": 3.0,
    "strength": 1.0,
}  # fmt: skip


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize(("exchanged", "follows"), [(0, 1.0), (1, 0.0)])
def test_boxes_that_are_followed_score_whole_and_others_nothing(exchanged: int, follows: float) -> None:
    drawn: dict[Way, Any] = {"base": pictures(2), "told": pictures(1), "exchanged": pictures(exchanged)}
    store: Any = Store()
    perception: Any = Seeing()
    table = scores.score_layouts(store, perception, LAYOUTS, drawn, {"real": pictures(1)}, ABOUT)
    found = {row["drawn"]: row for row in table.to_pylist()}
    assert {name: row["in_box"] for name, row in found.items()} == {
        "real": 1.0, "base": 0.0, "told": 1.0, "exchanged": follows,
    }  # fmt: skip
    assert {name: row["shown"] for name, row in found.items()} == {
        "real": 1.0, "base": 0.0, "told": 1.0, "exchanged": 1.0,
    }  # fmt: skip
    assert {row["num_objects"] for row in found.values()} == {2}
    text = scores.layout_markdown(table)
    assert "boxes left and right exchanged" in text
    assert "Recognised by a bank" in text


def test_without_a_recogniser_only_pictures_tell() -> None:
    store: Any = Store()
    perception: Any = Seeing(empty=True)
    table = scores.score_layouts(store, perception, LAYOUTS, {}, {}, ABOUT)
    assert table.num_rows == 0
    assert "only the pictures tell" in scores.layout_markdown(table)
