"""Whether objects lie where boxes say: a model that follows, one that does not, and what is never asked."""

from __future__ import annotations

import pyarrow as pa
import pytest

from assets.layout import scores
from assets.layout.held_out import HeldOutLayouts
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


def seen(*, lie: str) -> dict[str, list[Found]]:
    """What perception would find: things as told, exchanged, or other things."""
    if lie == "otherwise":
        return {"a": [], "b": [Found("tree", RIGHT)]}
    car, dog = (LEFT, RIGHT) if lie == "as told" else (RIGHT, LEFT)
    return {"a": [Found("car", car)], "b": [Found("dog", dog)]}


ABOUT = {
    "recipe": "r", "model_digest": "d" * 64, "judged_by": "a bank", "num_pictures": 2, "num_steps": 4, "guidance": 3.0,
    "strength": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(("lie", "follows"), [("exchanged", 1.0), ("as told", 0.0)])
def test_boxes_that_are_followed_score_whole_and_others_nothing(lie: str, follows: float) -> None:
    told = seen(lie="as told")
    found = {"real": told, "base": seen(lie="otherwise"), "told": told, "exchanged": seen(lie=lie)}
    table = scores.scores_of(LAYOUTS, TRUTHS, found, ABOUT)
    rows = {row["drawn"]: row for row in table.to_pylist()}
    assert {name: row["in_box"] for name, row in rows.items()} == {
        "real": 1.0, "base": 0.0, "told": 1.0, "base_by_exchanged": 0.0, "exchanged": follows,
    }  # fmt: skip
    assert {name: row["shown"] for name, row in rows.items()} == {
        "real": 1.0, "base": 0.0, "told": 1.0, "base_by_exchanged": 0.0, "exchanged": 1.0,
    }  # fmt: skip
    assert {row["num_objects"] for row in rows.values()} == {2}
    text = scores.layout_markdown(table)
    assert "boxes left and right exchanged" in text
    assert "Recognised by a bank" in text


def test_what_stands_in_the_middle_follows_an_exchange_without_moving() -> None:
    """Its box holds its exchanged one's centre, so that it says nothing of following."""
    layouts = HeldOutLayouts(
        pa.table({"sample_id": ["a"], "row": [0]}),
        (Layout("", (Entity("a car", LEFT), Entity("a sun", BELOW))),),
    )
    truths = {"a": truth(("car", LEFT), ("sun", BELOW))}
    stays = {"a": [Found("car", LEFT), Found("sun", BELOW)]}
    table = scores.scores_of(layouts, truths, {"base": stays, "exchanged": stays}, ABOUT)
    rows = {row["drawn"]: row for row in table.to_pylist()}
    assert [rows["exchanged"][name] for name in ("in_box", "moved_in_box", "num_moved")] == [0.5, 0.0, 1]
    assert [rows["base"][name] for name in ("in_box", "moved_in_box", "num_moved")] == [1.0, 1.0, 1]


def test_where_an_exchange_moves_nothing_no_share_is_told() -> None:
    layouts = HeldOutLayouts(
        pa.table({"sample_id": ["a"], "row": [0]}), (Layout("", (Entity("a sun", BELOW),)),)
    )
    table = scores.scores_of(layouts, {"a": truth(("sun", BELOW))}, {"told": {"a": []}}, ABOUT)
    assert table["moved_in_box"].to_pylist() == [None]
    assert "moves 0 objects" in scores.layout_markdown(table)


def test_without_names_only_pictures_tell() -> None:
    nothing = {"a": truth(), "b": truth()}
    table = scores.scores_of(LAYOUTS, nothing, {"told": seen(lie="as told")}, ABOUT)
    assert table.num_rows == 0
    assert "only the pictures tell" in scores.layout_markdown(table)
