from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.boxes import MIN_IOU, iou_matrix, match_pairs
from evaluation.metrics.grouped_counts import GROUPS, SCORES, ratio_intervals
from evaluation.metrics.perception_scores import METRICS, perception_scores
from evaluation.metrics.scene_truth import color_words, mentions
from training.errors import FoundryError

BOX, FAR = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]


def _region(
    sample_id: str, name: str, box: list[float], text: str = "", color: str = "blue"
) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "region_index": 0,
        "names": [name] if name else [],
        "box_xyxy_norm": box,
        "text": text,
        "background_color": color,
    }


def _scene(
    sample_id: str, objects: list[tuple[str, list[float]]], word: str = "", background: str = "plain blue"
) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "objects": [{"name": name, "box_xyxy_norm": box} for name, box in objects],
        "word": word,
        "background": background,
    }


REGION_ROWS = [
    _region("a", "apple", BOX),
    _region("a", "", FAR, text="STOP"),
    _region("b", "sun", BOX, color="red"),
    _region("c", "", [0.0, 0.0, 1.0, 1.0]),
]
TRUTH_ROWS = [
    _scene("a", [("apple", BOX), ("tree", FAR)], "STOP"),
    _scene("b", [("pear", [0.0, 0.0, 0.5, 0.4])], "HI", "two-tone red and blue"),
    _scene("c", [("apple", FAR)]),
    _scene("never perceived", [("apple", BOX)]),
]
CAPTIONS = [
    {"sample_id": "a", "caption": "two apples, a sun", "keep": True},
    {"sample_id": "b", "caption": "a pear", "keep": False},
]


def _tables() -> tuple[pa.Table, pa.Table, pa.Table]:
    return tuple(pa.Table.from_pylist(rows) for rows in (REGION_ROWS, TRUTH_ROWS, CAPTIONS))


def _value(table: pa.Table, metric: str, group: str = "all", system: str = "perceived") -> float | None:
    (row,) = [
        row
        for row in table.to_pylist()
        if (row["metric"], row["group"], row["system"]) == (metric, group, system)
    ]
    return row["value"]


def test_every_figure_by_hand() -> None:
    regions, truth, captions = _tables()
    table = perception_scores(regions, truth, captions, ["pear"])
    assert table.schema.equals(SCORES, check_metadata=True)
    expected = {
        "name_precision": 1 / 2,  # apple right, sun wrong
        "name_recall": 1 / 4,
        "mention_precision": 1.0,  # sun is no concept of this truth; the dropped caption does not count
        "mention_recall": 1 / 4,
        "region_precision": 1.0,  # the word's box and the empty image's whole-image row are no boxes
        "region_recall": 2 / 4,
        "region_mean_iou": (1 + 0.8) / 2,
        "word_exact_match": 1 / 2,
        "word_precision": 1.0,
        "background_color_accuracy": 2 / 3,
    }
    for metric, value in expected.items():
        assert _value(table, metric) == pytest.approx(value), metric
    assert _value(table, "name_recall", "held_out_concepts") == 0.0
    assert _value(table, "name_recall", "training_concepts") == pytest.approx(1 / 3)
    assert _value(table, "name_recall", "1 object") == 0.0
    assert _value(table, "name_recall", "2 objects") == pytest.approx(1 / 2)
    assert _value(table, "name_recall", "3 objects") is None
    assert {row["group"] for row in table.to_pylist()} == set(GROUPS)


def test_the_oracle_is_right_and_chance_is_another_images_perception() -> None:
    regions, truth, captions = _tables()
    table = perception_scores(regions, truth, captions, ["pear"])
    for metric in METRICS:
        assert _value(table, metric, system="oracle") == 1.0
    # names given to others: a gets {sun}, {}; b gets {}, {apple}; c gets {apple}, {sun}: right once in six draws
    assert _value(table, "name_recall", system="chance") == pytest.approx((0 + 0 + 0.5) / 4)


def test_without_truth_or_captions_figures_are_unknown_not_zero() -> None:
    regions, truth, _ = _tables()
    for row in perception_scores(regions, truth.slice(0, 0)).to_pylist():
        assert (row["value"], row["low"], row["high"], row["num_images"]) == (None, None, None, 0)
    table = perception_scores(regions, truth)
    assert _value(table, "mention_recall") is None
    assert _value(table, "name_recall") is not None


def test_intervals_hold_the_value_and_are_repeatable() -> None:
    counts = np.stack([np.arange(40) % 3 > 0, np.ones(40)], axis=-1).astype(np.float64)[:, None]
    ((value, low, high),) = ratio_intervals(counts)
    assert value == pytest.approx(counts[:, 0, 0].mean())
    assert low is not None
    assert high is not None
    assert low < counts[:, 0, 0].mean() < high
    assert ratio_intervals(counts) == [(value, low, high)]
    assert ratio_intervals(np.zeros((3, 1, 2))) == [(None, None, None)]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        given = random.integers(1, 4, 60)
        counts = np.stack([random.binomial(given, 0.7), given], axis=-1).astype(np.float64)[:, None]
        ((_, low, high),) = ratio_intervals(counts, 300, trial)
        covered += int(low is not None and high is not None and low <= 0.7 <= high)
    assert 180 <= covered <= 199  # 95 % of 200, give or take three standard deviations


def test_longer_names_are_found_before_shorter_ones() -> None:
    concepts = ["sun", "sunflower", "red heart", "heart"]
    assert mentions("Sunflowers and a red heart", concepts) == {"sunflower", "red heart"}
    assert mentions("sunny", concepts) == frozenset()


def test_color_words_of_descriptions() -> None:
    assert color_words("two-tone grey and teal") == {"gray", "teal"}
    assert color_words("") == frozenset()


_BOXES = st.lists(
    st.tuples(*[st.floats(0, 0.7)] * 2, *[st.floats(0.05, 0.3)] * 2).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(_BOXES, _BOXES)
def test_matching_is_as_good_as_trying_every_pairing(
    found: list[tuple[float, ...]], wanted: list[tuple[float, ...]]
) -> None:
    overlaps = iou_matrix(np.array(wanted), np.array(found))
    padded = np.zeros((4, 4))
    padded[: len(wanted), : len(found)] = np.where(overlaps >= MIN_IOU, 1, 0)
    best = max(padded[range(4), list(order)].sum() for order in permutations(range(4)))
    pairs = match_pairs(found, wanted)
    assert len(pairs) == best
    assert len({row for row, *_ in pairs}) == len({column for _, column, _ in pairs}) == len(pairs)
    assert all(iou == overlaps[column, row] >= MIN_IOU for row, column, iou in pairs)
    assert ((overlaps >= 0) & (overlaps <= 1 + 1e-9)).all()


def test_missing_columns_are_named() -> None:
    regions, truth, _ = _tables()
    with pytest.raises(FoundryError, match="truth table lacks the columns objects"):
        perception_scores(regions, truth.drop_columns(["objects"]))
