from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assets.corpus import art
from evaluation.perception.downloads import NANODET, is_fetched
from evaluation.perception.networks.coco_names import COCO_NAMES
from evaluation.perception.networks.nanodet import (
    SIDE_PX,
    Detection,
    build_nanodet_worker,
    decode,
    ground,
    means,
    nanodet_digest,
    prepare,
    suppress,
)
from evaluation.tables.perception import BOXES
from tests.evaluation.perception.composites import png
from training.errors import FoundryError

needs_network = pytest.mark.skipif(
    not is_fetched(NANODET), reason="the detector was not fetched; run: make demo-data"
)


def test_a_cell_answers_with_the_expected_distances_around_its_centre() -> None:
    scores = np.zeros((13 * 13, 80), np.float32)
    sides = np.zeros((13 * 13, 44), np.float32)
    cell = 13 * 6 + 4  # row 6, column 4: centre at (4.5, 6.5) x 32 pixels
    scores[cell, 17] = 0.8
    sides[cell, [2, 11 + 1, 22 + 0]] = 50.0  # left 2 strides, top 1, right 0, each for sure
    sides[cell, 33:44] = -50.0
    sides[cell, [33 + 3, 33 + 4]] = 50.0  # bottom 3 or 4 strides, as likely: 3.5
    boxes, best, names = decode(scores, sides, 32)
    expected = np.array([4.5 - 2, 6.5 - 1, 4.5, 6.5 + 3.5]) * 32 / SIDE_PX
    np.testing.assert_allclose(boxes[cell], expected, atol=1e-6)
    assert (best[cell], names[cell]) == (pytest.approx(0.8), 17)
    assert ((boxes >= 0) & (boxes <= 1)).all()


def test_of_boxes_that_overlap_the_best_stays_whatever_the_class() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.4], [0.5, 0.5, 1, 1], [0, 0, 1, 1]], np.float64)
    assert suppress(boxes, np.array([0.6, 0.9, 0.5, 0.2]), 0.3, 0.5) == [1, 2]
    assert suppress(boxes, np.array([0.6, 0.9, 0.5, 0.4]), 0.3, 0.9) == [1, 0, 2, 3]
    assert suppress(boxes, np.zeros(4), 0.3, 0.5) == []


@pytest.mark.parametrize(
    ("phrase", "name", "expected"),
    [
        ("a red apple", "apple", True),
        ("two dogs on the grass", "dog", True),
        ("a red ball", "sports ball", True),
        ("an apple tree", "apple", False),
        ("a house with a dog", "dog", False),
        ("buses", "bus", True),
        ("", "dog", False),
    ],
)
def test_a_phrase_means_a_class_by_its_head(phrase: str, name: str, expected: bool) -> None:
    assert means(phrase, name) is expected


def test_a_phrase_takes_the_best_box_and_the_others_keep_their_class() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    found = [Detection(box, "dog", 0.9), Detection(box, "dog", 0.8), Detection(box, "cat", 0.7)]
    answer = [(index, phrase) for index, phrase, _ in ground(found, ["a tree", "a brown dog"])]
    assert answer == [(1, "a brown dog"), (-1, "dog"), (-1, "cat")]


def test_the_network_is_given_blue_first_and_normalised() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[..., 0] = 255  # red
    given = prepare(image)
    assert given.shape == (1, 3, SIDE_PX, SIDE_PX)
    np.testing.assert_allclose(
        given[0, :, 0, 0], [-103.53 / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395], rtol=1e-5
    )


def test_digests_tell_settings_and_the_worker_travels() -> None:
    assert nanodet_digest() != nanodet_digest(0.5)
    assert nanodet_digest() != nanodet_digest(max_overlap_iou=0.6)
    assert pickle.loads(pickle.dumps(build_nanodet_worker)) is build_nanodet_worker
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    assert (COCO_NAMES[0], COCO_NAMES[17], COCO_NAMES[79]) == ("person", "horse", "toothbrush")


def test_wrong_settings_and_missing_files_are_named(tmp_path: object) -> None:
    with pytest.raises(FoundryError, match="min_score is 2"):
        build_nanodet_worker(2.0)
    with pytest.raises(FoundryError, match="threads is 0"):
        build_nanodet_worker(threads=0)
    image = png(np.zeros((16, 16, 3), np.uint8))
    batch = pa.table({"sample_id": ["a"], "phrases": [["x"]], "image": [image]})
    with pytest.raises(FoundryError, match="make demo-data"):
        build_nanodet_worker(cache=str(tmp_path))(batch)


@pytest.mark.needs_assets
@needs_network
def test_a_drawing_is_found_where_it_is() -> None:
    canvas = Image.new("RGB", (64, 64), (90, 170, 90))
    drawing = Image.fromarray(art.render("cat", 40))
    canvas.paste(drawing, (10, 12), drawing)
    batch = pa.table(
        {"sample_id": ["a"], "phrases": [["a zebra", "a cat"]], "image": [png(np.asarray(canvas))]}
    )
    found = build_nanodet_worker()(batch)
    assert found.schema.equals(BOXES, check_metadata=True)
    best = found.to_pylist()[0]
    assert (best["phrase"], best["phrase_index"]) == ("a cat", 1)
    np.testing.assert_allclose(best["box_xyxy_norm"], np.array([10, 12, 50, 52]) / 64, atol=0.06)
    assert found["score"].to_pylist() == sorted(found["score"].to_pylist(), reverse=True)
    assert build_nanodet_worker()(batch).equals(found)
    with pytest.raises(FoundryError, match="sample b"):
        build_nanodet_worker()(pa.table({"sample_id": ["b"], "phrases": [[]], "image": [b"no image"]}))
