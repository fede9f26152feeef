"""Rules of curation: each alone, their order, one more given from outside, and all of it against a slow reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.corpus.curation import curate
from assets.corpus.curation_rules import CURATION_RULES, CurationRule, first_reasons, thresholds_of
from assets.corpus.definitions import CuratedImagesConfig
from assets.corpus.identity import image_id_of, sample_id_of
from assets.graph.schemas import LANDED_IMAGES
from tests.assets.corpus.makers import picture
from training.errors import FoundryError

TOO_SMALL, EXTREME = CURATION_RULES
STANDS_FIRST = ("held_out_concepts", "held_out_images", "judge", "train")
SIZES = ((40, 40), (31, 64), (32, 64), (40, 161), (40, 160), (10, 200), (36, 44))
PICTURES = [(picture(number, *size), *size) for number, size in enumerate(SIZES)]
SAMPLES = st.lists(
    st.tuples(st.integers(0, len(PICTURES) - 1), st.sampled_from("abcdefgh"), st.sampled_from(STANDS_FIRST)),
    max_size=14,
)


def _sizes(*sizes: tuple[int, int]) -> pa.Table:
    return pa.table({"width": [size[0] for size in sizes], "height": [size[1] for size in sizes]})


def _landed(samples: Sequence[tuple[int, str, str]]) -> pa.Table:
    """LANDED_IMAGES of (number of a picture, key, split)."""
    rows = []
    for number, key, split in samples:
        image, width, height = PICTURES[number]
        image_id = image_id_of(image)
        rows.append(
            {
                "sample_id": sample_id_of(image_id, "s", key), "image_id": image_id, "source": "s", "shard": "a",
                "key": key, "split": split, "image": image, "width": width, "height": height, "alt_text": key,
                "license": "unknown", "attribution": "",
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LANDED_IMAGES)


def _reasons(rules: tuple[CurationRule, ...], rows: pa.Table, **given: float) -> list[str]:
    return first_reasons(rows, rules, thresholds_of(rules, given))


def test_a_picture_below_the_shorter_side_is_too_small() -> None:
    rows = _sizes((31, 64), (64, 31), (32, 64), (64, 32), (10, 200))
    assert _reasons((TOO_SMALL,), rows) == ["too_small", "too_small", "", "", "too_small"]
    assert _reasons((TOO_SMALL,), rows, min_side=10) == [""] * 5


def test_a_picture_above_the_ratio_is_extreme() -> None:
    rows = _sizes((40, 161), (161, 40), (40, 160), (160, 40), (10, 200))
    extreme = "extreme_aspect_ratio"
    assert _reasons((EXTREME,), rows) == [extreme, extreme, "", "", extreme]
    assert _reasons((EXTREME,), rows, max_aspect=20) == [""] * 5


def test_the_first_rule_that_does_not_keep_a_picture_is_the_reason() -> None:
    both = _sizes((10, 200))
    assert _reasons((TOO_SMALL, EXTREME), both) == ["too_small"]
    assert _reasons((EXTREME, TOO_SMALL), both) == ["extreme_aspect_ratio"]


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), max_size=20), st.floats(1, 9))
def test_a_ratio_is_compared_without_rounding_it(sizes: list[tuple[int, int]], max_aspect: float) -> None:
    found = _reasons((EXTREME,), _sizes(*sizes) if sizes else _sizes().cast(_empty()), max_aspect=max_aspect)
    expected = [max(size) > max_aspect * min(size) for size in sizes]
    assert [reason != "" for reason in found] == expected


def _empty() -> pa.Schema:
    return pa.schema([("width", pa.int32()), ("height", pa.int32())])


@settings(max_examples=40, deadline=None)
@given(SAMPLES, st.integers(1, 64), st.sampled_from([1.0, 1.2, 4.0, 6.0]))
def test_curating_against_a_slow_reference(
    samples: list[tuple[int, str, str]], min_side: int, max_aspect: float
) -> None:
    landed = _landed(samples)
    found = curate(landed, min_side=min_side, max_aspect=max_aspect)
    expected = _slowly(landed, min_side, max_aspect)
    assert found["sample_id"].to_pylist() == sorted(expected)
    reasons = dict(zip(found["sample_id"].to_pylist(), found["dropped_because"].to_pylist(), strict=True))
    assert reasons == expected
    assert found["keep"].to_pylist() == [reason == "" for reason in found["dropped_because"].to_pylist()]


def _slowly(landed: pa.Table, min_side: int, max_aspect: float) -> dict[str, str]:
    """Reason of every sample, one at a time. The pictures are noise: none but equal ones are alike."""
    first: dict[str, dict[str, Any]] = {}
    for row in landed.to_pylist():
        first.setdefault(row["sample_id"], row)
    reasons = {}
    for sample_id, row in first.items():
        shorter, longer = sorted((row["width"], row["height"]))
        if shorter < min_side:
            reasons[sample_id] = "too_small"
        elif longer > max_aspect * shorter:
            reasons[sample_id] = "extreme_aspect_ratio"
        else:
            reasons[sample_id] = ""
    kept = [row for sample_id, row in first.items() if reasons[sample_id] == ""]
    shown: set[str] = set()
    for row in sorted(kept, key=lambda row: (STANDS_FIRST.index(row["split"]), row["sample_id"])):
        if row["image_id"] in shown:
            reasons[row["sample_id"]] = "duplicate"
        shown.add(row["image_id"])
    return reasons


def test_a_rule_given_from_outside_drops_rows_with_its_reason() -> None:
    wide = CurationRule("too_wide", "width", "at_most", 100, "max_width", "widest side in pixels", 1)
    landed = _landed([(0, "a", "train"), (3, "b", "train"), (1, "c", "train")])
    turned = landed.set_column(
        landed.column_names.index("width"), "width", pa.array([40, 161, 31], pa.int32())
    )
    found = curate(turned, rules=(wide, *CURATION_RULES))
    keys = dict(zip(turned["sample_id"].to_pylist(), turned["key"].to_pylist(), strict=True))
    reasons = zip(found["sample_id"].to_pylist(), found["dropped_because"].to_pylist(), strict=True)
    assert {keys[name]: reason for name, reason in reasons} == {"a": "", "b": "too_wide", "c": "too_small"}
    relaxed = curate(turned, rules=(wide, *CURATION_RULES), max_width=161, max_aspect=5)
    assert sorted(relaxed["dropped_because"].to_pylist()) == ["", "", "too_small"]


def test_settings_are_those_of_the_rules() -> None:
    fields: Mapping[str, Any] = CuratedImagesConfig.model_fields
    assert list(fields) == [rule.setting for rule in CURATION_RULES] == ["min_side", "max_aspect"]
    assert CuratedImagesConfig().model_dump() == {"min_side": 32, "max_aspect": 4.0}
    assert [field.description for field in fields.values()] == [rule.about for rule in CURATION_RULES]


@pytest.mark.parametrize(
    ("rules", "given_thresholds", "message"),
    [
        (CURATION_RULES, {"min_side": 0}, "min_side is 0; it must be at least 1"),
        (CURATION_RULES, {"min_sides": 3}, "no setting 'min_sides'; allowed are min_side, max_aspect"),
        ((replace(TOO_SMALL, column="depth"),), {}, "no column 'depth'; allowed are shorter_side, longer_side, width"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(
    rules: tuple[CurationRule, ...], given_thresholds: dict[str, float], message: str
) -> None:
    with pytest.raises(FoundryError, match=message):
        _reasons(rules, _sizes((1, 1)), **given_thresholds)


def test_a_missing_number_keeps_nothing() -> None:
    rule = CurationRule("unscored", "score", "at_least", 0.5, "min_score", "score", 0)
    rows = pa.table({"score": pa.array([0.5, None, 0.4], pa.float64())})
    assert _reasons((rule,), rows) == ["", "unscored", "unscored"]
    assert rule.keeps(rows, 0.5).dtype == np.bool_
