from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.perception.embedded.descriptions import Look, describe, look_at_crop, matching_region
from evaluation.perception.questions import attributes_of
from evaluation.perception.run_lengths import decode_mask
from evaluation.tables.perception import DESCRIPTIONS, MASKS
from tests.evaluation.perception.composites import background, paste, png
from tests.evaluation.perception.makers import embedded, region, regions_column, worker_of
from training.errors import FoundryError

TOP_LEFT = (0.1, 0.1, 0.4, 0.4)


def look(**other: object) -> Look:
    return Look(**{  # type: ignore[arg-type]
        "color": "red", "second_color": "", "shape": "round", "texture": "smooth", "text": "", "iou": 1.0, **other,
    })  # fmt: skip


def test_descriptions_say_what_was_measured() -> None:
    assert describe("a green apple", TOP_LEFT, look()) == (
        "a smooth red apple with a round outline at the top left, of middle size"
    )
    assert describe("the drum", TOP_LEFT, look(second_color="white", texture="striped")) == (
        "a striped red and white drum with a round outline at the top left, of middle size"
    )
    assert describe("a blue heart", (0.0, 0.0, 1.0, 1.0), look(texture="detailed", shape="irregular")) == (
        "a red heart with an irregular outline and a detailed surface in the middle, large"
    )
    assert describe("heart", TOP_LEFT, look(text="STOP", color="white")) == (
        'the word "STOP" in white letters at the top left, of middle size'
    )


@given(st.text(max_size=30), st.tuples(*[st.floats(0, 1)] * 4))
def test_any_phrase_and_box_is_described(phrase: str, box: tuple[float, ...]) -> None:
    assert describe(phrase, box, look()).startswith(("a smooth", "an "))


def test_the_region_that_overlaps_most_is_the_entitys() -> None:
    found = [region("cat", box=(0, 0, 1, 1)), region("apple", box=TOP_LEFT)]
    best, iou = matching_region(TOP_LEFT, found)
    assert best is found[1]
    assert iou == pytest.approx(1)
    assert matching_region(TOP_LEFT, []) == (None, 0.0)


def test_crops_are_measured_where_perception_saw_nothing() -> None:
    scene, box = paste(background("plain", "blue", "blue"), "apple", 14, 22, 38)
    wide = (box[0] - 0.1, box[1] - 0.1, box[2] + 0.1, box[3] + 0.1)
    seen = look_at_crop(scene, wide)
    assert (seen.color, seen.texture) == ("red", "smooth")
    area = lambda sides: (sides[2] - sides[0]) * (sides[3] - sides[1])  # noqa: E731
    assert seen.iou == pytest.approx(area(box) / area(wide), rel=0.1)


@settings(deadline=None)
@given(st.tuples(*[st.floats(0, 1)] * 4), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_any_box_of_any_picture_can_be_looked_at(box: tuple[float, ...], shape: tuple[int, int]) -> None:
    ordered = (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
    seen = look_at_crop(np.full((*shape, 3), 200, dtype=np.uint8), ordered)
    assert seen.color == "gray"
    assert 0 <= seen.iou <= 1


def entities(**columns: list) -> pa.Table:
    return pa.table({"entity_id": ["e", "f"], "box_xyxy_norm": [list(TOP_LEFT), [0.5, 0.5, 1, 1]], **columns})


def test_the_describer_reads_regions_first_and_pixels_else() -> None:
    role = embedded("describer")
    worker = worker_of(role)
    picture = png(background("plain", "green", "green"))
    batch = entities(
        phrase=["an apple", "a thing"], image=[b"not looked at", picture],
        regions=regions_column([region("apple", box=TOP_LEFT, texture="striped")], []),
    )  # fmt: skip
    rows = worker(batch)
    assert rows.schema.equals(DESCRIPTIONS, check_metadata=True)
    first, second = rows.to_pylist()
    assert (
        first["description"]
        == "a striped red apple with an irregular outline at the top left, of middle size"
    )
    assert first["score"] == pytest.approx(1)
    assert second["description"] == "a smooth green thing with a square outline at the bottom right, large"
    assert (first["model_digest"], first["num_tokens"]) == (role.digest, 16)
    broken = batch.set_column(batch.schema.get_field_index("image"), "image", pa.array([b"", b"no"]))
    with pytest.raises(FoundryError, match="entity f: image cannot be decoded"):
        worker(broken)


def test_masks_are_those_of_the_matching_region_or_none() -> None:
    role = embedded("masks")
    rows = worker_of(role)(entities(regions=regions_column([region(box=TOP_LEFT)], [region(box=TOP_LEFT)])))
    assert rows.schema.equals(MASKS, check_metadata=True)
    assert rows["entity_id"].to_pylist() == ["e"]
    row = rows.to_pylist()[0]
    np.testing.assert_array_equal(decode_mask(row["mask_rle"], *row["mask_size"]), np.eye(8, dtype=bool))


def test_the_benchmark_reads_the_attributes_of_a_description() -> None:
    text = describe("a drum", TOP_LEFT, look(second_color="white", texture="striped"))
    assert attributes_of(text) == {"color": "red and white", "texture": "striped", "shape": "round"}
