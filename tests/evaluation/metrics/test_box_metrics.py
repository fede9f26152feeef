"""AP against pycocotools; recall and counts against what one counts by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.box_metrics import (
    COCO_IOUS,
    Boxes,
    LabelledBox,
    average_precision,
    box_metrics,
    count_accuracy,
    iou_recall,
)
from training.errors import FoundryError

LABELS = ("cup", "hat", "dog")


def _random(
    seed: int, *, extra: int = 1
) -> tuple[dict[str, list[LabelledBox]], dict[str, list[LabelledBox]]]:
    """Told boxes, and found ones: some of them shifted, some misnamed, some made up; scores may be equal."""
    random = np.random.default_rng(seed)
    told: dict[str, list[LabelledBox]] = {}
    found: dict[str, list[LabelledBox]] = {}
    for number in range(6):
        name, boxes = f"p{number}", []
        for _ in range(int(random.integers(0 if number else 1, 5))):
            low = random.uniform(0, 0.6, 2)
            high = low + random.uniform(0.1, 0.4, 2)
            boxes.append(LabelledBox(LABELS[random.integers(3)], (*map(float, low), *map(float, high))))
        told[name], found[name] = boxes, []
        for box in boxes:
            for _ in range(int(random.integers(0, 2 + extra))):
                shift = random.normal(0, 0.04, 4)
                corners = tuple(float(value) for value in np.clip(np.array(box.box_xyxy_norm) + shift, 0, 1))
                label = box.label if random.uniform() < 0.8 else LABELS[random.integers(3)]
                if corners[2] > corners[0] and corners[3] > corners[1]:
                    found[name].append(LabelledBox(label, corners, float(random.integers(1, 6)) / 5))
    return told, found


def _coco(told: Boxes, found: Boxes) -> tuple[float, float]:
    """(AP, AP at .5) by pycocotools, on pictures of 1000 x 1000 pixels; sizes do not count."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def row(number: int, picture: int, box: LabelledBox) -> dict[str, Any]:
        x1, y1, x2, y2 = (1000 * value for value in box.box_xyxy_norm)
        size = [x1, y1, x2 - x1, y2 - y1]
        return {
            "id": number, "image_id": picture, "category_id": LABELS.index(box.label) + 1, "bbox": size,
            "area": size[2] * size[3], "iscrowd": 0, "score": box.score,
        }  # fmt: skip

    names = list(told)
    boxes = [(names.index(name), box) for name in names for box in told[name]]
    guesses = [(names.index(name), box) for name in names for box in found[name]]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number, "width": 1000, "height": 1000} for number in range(len(names))],
            "annotations": [row(number + 1, *entry) for number, entry in enumerate(boxes)],
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(LABELS)],
        }
        truth.createIndex()
        given_boxes = COCO()
        given_boxes.dataset = {
            **truth.dataset,
            "annotations": [row(n + 1, *e) for n, e in enumerate(guesses)],
        }
        given_boxes.createIndex()
        run = COCOeval(truth, given_boxes, "bbox")
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, 2]  # overlaps, recalls, categories; 100 boxes a picture
    known = precision[precision > -1]
    at_half = precision[0][precision[0] > -1]
    return float(known.mean()), float(at_half.mean())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
@pytest.mark.parametrize("seed", range(25))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    pytest.importorskip("pycocotools.cocoeval")
    told, found = _random(seed)
    ap, ap50 = _coco(told, found)
    assert average_precision(told, found).value == pytest.approx(ap, abs=1e-9)
    assert average_precision(told, found, (0.5,)).value == pytest.approx(ap50, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_finding_everything_scores_one_and_nothing_zero(seed: int) -> None:
    told, _ = _random(seed)
    same = box_metrics(told, told)
    assert [same.recall.value, same.ap50.value, same.ap.value, same.count.value] == [1.0] * 4
    nothing = box_metrics(told, {name: [] for name in told})
    assert [nothing.recall.value, nothing.ap50.value, nothing.ap.value, nothing.count.value] == [0.0] * 4
    assert same.num_boxes == sum(map(len, told.values()))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_values_lie_in_their_intervals_and_harder_overlaps_score_less(seed: int) -> None:
    found = box_metrics(*_random(seed))
    for interval in (found.recall, found.ap50, found.ap, found.count):
        assert 0 <= interval.low <= interval.high <= 1
        assert 0 <= interval.value <= 1
    assert found.ap.value <= found.ap50.value + 1e-12
    assert len(COCO_IOUS) == 10


def test_recall_and_counts_by_hand() -> None:
    left, right, below = (0.0, 0.0, 0.4, 0.4), (0.6, 0.0, 1.0, 0.4), (0.0, 0.6, 0.4, 1.0)
    told = {"a": [LabelledBox("cup", left), LabelledBox("cup", right), LabelledBox("hat", below)], "b": []}
    found = {
        "a": [
            LabelledBox("cup", left, 0.9),
            LabelledBox("cup", (0.0, 0.0, 0.4, 0.3), 0.8),
            LabelledBox("dog", below),
        ],
        "b": [LabelledBox("cup", left)],
    }
    assert iou_recall(told, found).value == pytest.approx(1 / 3), "one cup is paired once, the hat is a dog"
    assert count_accuracy(told, found).value == pytest.approx(1 / 2), "two cups, no hat"
    assert iou_recall(told, found, min_iou=0.9).value == pytest.approx(1 / 3)


def test_what_cannot_be_measured_is_told() -> None:
    cup = [LabelledBox("cup", (0.0, 0.0, 1.0, 1.0))]
    with pytest.raises(FoundryError, match="no entry of picture a"):
        box_metrics({"a": cup}, {})
    with pytest.raises(FoundryError, match="found no told box"):
        iou_recall({"a": []}, {"a": cup})
