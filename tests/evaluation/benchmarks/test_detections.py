"""What detectors are asked, and under which labels boxes are compared."""

from __future__ import annotations

import pyarrow as pa
import pytest

from evaluation.benchmarks.detections import Detector, found_boxes, head_of, told_boxes
from evaluation.metrics.box_metrics import LabelledBox, box_metrics
from evaluation.tables.perception import BOXES, REGIONS
from tests.evaluation.benchmarks.makers import box, sample
from tests.evaluation.perception.makers import region
from training.errors import FoundryError

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
SAMPLES = [
    sample("a", box("a red cup", "", LEFT), box("two cups", "", RIGHT)),
    sample("b", box("a hat")),
    sample("c"),
]
PICTURES = {"a": b"A", "b": b"B", "c": b"C"}


def _finds_what_it_is_asked(rows: pa.Table) -> pa.Table:
    """Every phrase on the left half, half sure that it fits."""
    found = [
        {"sample_id": row["sample_id"], "box_index": n, "phrase_index": n, "phrase": phrase, "box_xyxy_norm": LEFT,
         "score": 0.8, "name_score": 0.5, "model": "m", "model_digest": "d", "function_version": 1}
        for row in rows.to_pylist()
        for n, phrase in enumerate(row["phrases"])
    ]  # fmt: skip
    return pa.Table.from_pylist(found, schema=BOXES)


def test_labels_are_head_nouns() -> None:
    assert [head_of(phrase) for phrase in ("a red cup", "two cups", "a cup of tea")] == ["cup"] * 3
    assert told_boxes(SAMPLES)["a"] == [LabelledBox("cup", LEFT), LabelledBox("cup", RIGHT)]
    assert list(told_boxes(SAMPLES)) == ["a", "b"], "samples without boxes ask for nothing"


def test_boxes_are_found_by_the_phrases_of_their_sample() -> None:
    found = found_boxes(SAMPLES, PICTURES, Detector("d", _finds_what_it_is_asked))
    assert [(one.label, one.box_xyxy_norm) for one in found["a"]] == [("cup", LEFT)] * 2
    assert [one.score for one in found["a"]] == pytest.approx([0.4, 0.4]), "there, and that it fits"
    assert [len(found[name]) for name in ("a", "b")] == [2, 1]
    metrics = box_metrics(told_boxes(SAMPLES), found)
    assert metrics.recall.value == pytest.approx(2 / 3), "one of the cups was told elsewhere"
    with pytest.raises(FoundryError, match="no picture, such as b"):
        found_boxes(SAMPLES, {"a": b"", "c": b""}, Detector("d", _finds_what_it_is_asked))


def test_a_detector_that_reads_regions_gets_those_of_its_picture() -> None:
    def look(rows: pa.Table) -> pa.Table:
        named = {b"A": "cup", b"B": "hat"}
        return pa.Table.from_pylist(
            [{"sample_id": row["sample_id"], **region(named[row["image"]])} for row in rows.to_pylist()],
            schema=REGIONS,
        )

    seen: dict[str, list[str]] = {}

    def find(rows: pa.Table) -> pa.Table:
        for row in rows.to_pylist():
            seen[row["sample_id"]] = [entry["names"][0] for entry in row["regions"]]
        return _finds_what_it_is_asked(rows)

    found_boxes(SAMPLES, PICTURES, Detector("d", find, look))
    assert seen == {"a": ["cup"], "b": ["hat"]}
