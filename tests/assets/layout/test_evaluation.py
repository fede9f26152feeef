"""Layout models side by side: shares by hand, differences paired by picture, claims from either side of a contrast."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from assets.layout.evaluation import (
    FOLLOWED,
    TOLD,
    Compared,
    Counts,
    difference_in_box,
    evaluation_markdown,
    evaluation_of,
)
from assets.layout.held_out import HeldOutLayouts
from assets.layout.measuring import pictures_table
from assets.layout.report_section import _turned
from assets.layout.seen import DrawnLayouts
from evaluation.tables.samples import LAYOUT_PICTURES
from training.layout.entities import Entity, Layout

LAYOUTS = HeldOutLayouts(
    pa.table({"sample_id": ["b", "a"], "seed": [7, 8]}),
    (
        Layout("two", (Entity("a dog", (0.0, 0.0, 0.25, 0.5)), Entity("a cat", (0.5, 0.0, 1.0, 0.5)))),
        Layout("one", (Entity("a red car", (0.0, 0.5, 0.5, 1.0)),)),
    ),
)
ABOUT = {"recipe": "r", "model_digest": "d" * 64, "num_steps": 4, "guidance": 3.0, "strength": 1.0}


def drawn() -> DrawnLayouts:
    """Pictures whose shade says which they are."""
    shades = {"base": (10, 20), "told": (30, 40), "exchanged": (50, 60)}
    images = {
        way: np.array(two, np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
        for way, two in shades.items()
    }
    return DrawnLayouts(pictures_table(LAYOUTS, images, ABOUT))  # type: ignore[arg-type]


def compared(recipe: str, branch: str, told: Counts, followed: Counts) -> Compared:
    return Compared("layout_model", recipe, branch, "d" * 64, drawn(), {TOLD: told, FOLLOWED: followed})


def test_stored_pictures_tell_their_layouts() -> None:
    stored = drawn()
    assert stored.table.schema.equals(LAYOUT_PICTURES)
    assert stored.layouts.sample_ids == ["a", "b"]  # by name, whatever the order in which they were drawn
    assert stored.layouts.layouts == LAYOUTS.layouts[::-1]
    assert stored.images("told")[:, 0, 0, 0].tolist() == [40, 30]
    strengths = {row["drawn"]: row["strength"] for row in stored.table.to_pylist()}
    assert strengths == {"base": 0.0, "told": 1.0, "exchanged": 1.0}


def test_shares_and_differences_are_those_counted_by_hand() -> None:
    every = np.array([[1, 1], [2, 2]])
    half, none = np.array([[0, 1], [1, 2]]), np.array([[0, 1], [0, 2]])
    table = evaluation_of(
        [compared("first", "siam", every, half), compared("second", "adapter", half, none)], "a bank"
    )
    values = {(row["recipe"], row["other"], row["metric"]): row["value"] for row in table.to_pylist()}
    assert values == {
        ("first", None, TOLD): 1.0,
        ("first", None, FOLLOWED): pytest.approx(1 / 3),
        ("second", None, TOLD): pytest.approx(1 / 3),
        ("second", None, FOLLOWED): 0.0,
        ("first", "second", TOLD): pytest.approx(2 / 3),
        ("first", "second", FOLLOWED): pytest.approx(1 / 3),
    }
    text = evaluation_markdown(table)
    assert all(part in text for part in ("first", "in their box", "paired by picture"))


def test_a_difference_knows_that_both_drew_the_same_layouts() -> None:
    """Hard and easy layouts are hard and easy for both: the difference is known far better than either share."""
    random = np.random.default_rng(0)
    easy = random.random(200) < 0.5
    first = np.stack([easy.astype(int), np.ones(200, int)], 1)
    second = first.copy()
    second[np.flatnonzero(easy)[:10], 0] = 0
    difference = difference_in_box(first, second)
    assert difference.value == pytest.approx(0.05)
    assert 0 < difference.low < difference.high < 0.1
    assert difference_in_box(second, first).value == pytest.approx(-0.05)


def test_a_contrast_from_the_other_side_is_its_negative() -> None:
    row = {"recipe": "x", "other": "y", "value": 0.2, "value_low": 0.1, "value_high": 0.4, "status": "holds"}
    turned = _turned(row)
    assert [turned[name] for name in ("recipe", "other", "value", "value_low", "value_high", "status")] == [
        "y", "x", -0.2, -0.4, -0.1, "fails",
    ]  # fmt: skip
    assert _turned(turned) == row


def test_models_of_other_layouts_are_not_held_together() -> None:
    one = compared("first", "siam", np.array([[1, 1], [2, 2]]), np.array([[1, 1], [2, 2]]))
    fewer = DrawnLayouts(one.drawn.table.filter(pc.equal(one.drawn.table["sample_id"], "a")))
    other = Compared("layout_model", "second", "siam", "e" * 64, fewer, {TOLD: np.array([[1, 1]])})
    assert set(evaluation_of([one, other], "a bank")["what"].to_pylist()) == {"model"}
