"""Boxes from tiny detectors, against transformers' own post-processing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from evaluation.perception.hub import florence, grounding_dino
from evaluation.perception.hub.box_conventions import from_pixels
from evaluation.perception.hub.detecting import best
from evaluation.perception.hub.found import Found, Query
from evaluation.perception.hub.generation import Answer
from evaluation.perception.hub.images import open_image
from evaluation.perception.hub.loading import Loaded, load
from evaluation.perception.hub.models import HubPerceptionModel
from evaluation.perception.hub.settings import HubModel, read_settings
from evaluation.tables.perception import BOXES
from tests.evaluation.perception.hub.conftest import Checkpoint, png
from training.errors import FoundryError

PHRASES = [["a red apple", "a car"], [], ["the blue ball"], ["a car", "A Dog. big", "a horse"], ["..."]]


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    images = [png(1, 48, 32), png(4, 30, 30), png(2, 40, 40), png(1, 48, 32), png(3, 32, 64)]
    return pa.table({"sample_id": [f"s{i}" for i in range(5)], "image": images, "phrases": PHRASES})


def settings_of(name: str, checkpoint: Checkpoint, **more: Any) -> dict[str, Any]:
    base = {"family": name, "path": str(checkpoint(name)), "device": "cpu"}
    return base | {"box_threshold": 0.0, "text_threshold": 0.0, "max_boxes": 5} | more


def run(settings: dict[str, Any], rows: pa.Table) -> pa.Table:
    factory, kwargs = HubPerceptionModel("tiny", settings, "detector").worker()
    return factory(**kwargs)(rows)


def loaded_with(name: str, checkpoint: Checkpoint, **more: Any) -> tuple[Loaded, HubModel]:
    settings = read_settings(settings_of(name, checkpoint, **more), "detector")
    return load(checkpoint(name), settings), settings


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("grounding_dino", {}),
        ("owlv2", {}),
        ("florence2", {"decoding": {"max_new_tokens": 60}}),
        ("florence2", {"decoding": {"max_new_tokens": 60}, "prompts": [florence.OPEN_VOCABULARY]}),
    ],
)
def test_boxes_have_the_form_and_do_not_depend_on_the_batch(
    name: str, more: dict[str, Any], checkpoint: Checkpoint, rows: pa.Table
) -> None:
    alone = run(settings_of(name, checkpoint, batch_size=1, **more), rows)
    together = run(settings_of(name, checkpoint, batch_size=5, **more), rows)
    assert alone.schema.equals(BOXES)
    assert alone.num_rows > 4
    numbers = ["score", "name_score", "box_xyxy_norm"]
    assert alone.drop(numbers).equals(together.drop(numbers))
    for column in numbers:
        np.testing.assert_allclose(alone[column].to_pylist(), together[column].to_pylist(), atol=1e-5)
    assert "s1" not in alone["sample_id"].to_pylist()  # it asked for nothing
    for row in alone.to_pylist():
        x1, y1, x2, y2 = row["box_xyxy_norm"]
        assert 0 <= x1 < x2 <= 1
        assert 0 <= y1 < y2 <= 1
        assert 0 <= row["name_score"] <= 1
        asked = PHRASES[int(row["sample_id"][1:])]
        assert row["phrase_index"] == -1 or row["phrase"] == asked[row["phrase_index"]]
    scores = [row["score"] for row in alone.to_pylist() if row["sample_id"] == "s3"]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) <= 5


@pytest.mark.parametrize("name", ["grounding_dino", "owlv2"])
def test_thresholds_drop_boxes(name: str, checkpoint: Checkpoint, rows: pa.Table) -> None:
    every = run(settings_of(name, checkpoint, max_boxes=100), rows)
    middle = float(np.median(every["score"]))
    fewer = run(settings_of(name, checkpoint, max_boxes=100, box_threshold=middle), rows)
    assert fewer.num_rows == int((np.array(every["score"]) > middle).sum())
    assert run(settings_of(name, checkpoint, box_threshold=1.0), rows).equals(BOXES.empty_table())


def test_grounding_dino_agrees_with_transformers(checkpoint: Checkpoint) -> None:
    image = open_image(png(6, 60, 40), "s", 1024)
    query = Query("s", ("a red apple", "two cars"), image)
    loaded, settings = loaded_with("grounding_dino", checkpoint)
    threshold = float(np.median(grounding_dino.detect(loaded, settings, [query])[0].score))
    settings = settings.model_copy(update={"box_threshold": threshold})
    found = grounding_dino.detect(loaded, settings, [query])[0]
    inputs = loaded.processor(images=image, text="a red apple. two cars.", return_tensors="pt")
    with torch.inference_mode():
        output = loaded.model(**inputs)
    reference = loaded.processor.post_process_grounded_object_detection(
        output, inputs["input_ids"], threshold=threshold, text_threshold=0.0, target_sizes=[(40, 60)]
    )[0]
    assert len(found.boxes) == len(reference["boxes"]) > 1
    np.testing.assert_allclose(found.score, reference["scores"].numpy(), atol=1e-6)
    expected = from_pixels(reference["boxes"].double().numpy(), 60, 40)
    np.testing.assert_allclose(found.boxes, expected, atol=1e-6)


def test_grounding_dino_maps_tokens_to_phrases(checkpoint: Checkpoint) -> None:
    loaded, settings = loaded_with("grounding_dino", checkpoint, box_threshold=0.3, text_threshold=0.4)
    image = open_image(png(6, 60, 40), "s", 1024)
    query = Query("s", ("Cat.", " ", "dog on it"), image)
    (grounding,) = grounding_dino.ground(loaded.tokenizer, 0, query, "{phrase}", 48)
    assert grounding.text == "cat. dog on it."
    # [CLS] c a t . d o g o n i t . [SEP], one letter a token
    assert grounding.tokens == {0: [1, 2, 3], 2: [5, 6, 7, 8, 9, 10, 11]}
    probability = np.zeros((4, 16))
    probability[0, 2] = 0.9  # within "cat"
    probability[1, 9] = 0.5  # within "dog on it"
    probability[2, 4] = 0.8  # the full stop alone: no phrase
    probability[3, 1] = 0.35  # a box, but no sure word
    boxes = np.tile([0.5, 0.5, 0.2, 0.2], (4, 1))
    found = grounding_dino.choose(probability, boxes, grounding, query.phrases, settings)
    assert found.phrase_index.tolist() == [0, 2]
    assert found.labels == ["Cat.", "dog on it"]
    np.testing.assert_allclose(found.score, [0.9, 0.5])
    np.testing.assert_allclose(found.name_score, [0.9 / 3, 0.5 / 7])


def test_grounding_dino_asks_in_parts_what_is_too_long_for_one_text(checkpoint: Checkpoint) -> None:
    loaded, settings = loaded_with("grounding_dino", checkpoint)
    phrases = tuple(letter * 12 for letter in "abcdefg")
    query = Query("s", phrases, open_image(png(6, 60, 40), "s", 1024))
    parts = grounding_dino.ground(loaded.tokenizer, 0, query, "{phrase}", 48)
    assert [sorted(part.tokens) for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(part.num_tokens <= 48 for part in parts)
    found = grounding_dino.detect(loaded, settings, [query])[0]
    assert len(found.boxes) == 3 * 8  # every text has the model's eight boxes


def test_owlv2_agrees_with_transformers(checkpoint: Checkpoint) -> None:
    from evaluation.perception.hub import owlv2

    loaded, settings = loaded_with("owlv2", checkpoint, box_threshold=0.3, prompts=["{phrase}"])
    image = open_image(png(6, 60, 40), "s", 1024)
    other = Query("t", ("a", "b", "c"), open_image(png(7, 40, 60), "t", 1024))
    found = owlv2.detect(loaded, settings, [Query("s", ("an apple", "two cars"), image), other])[0]
    inputs = loaded.processor(images=image, text=[["an apple", "two cars"]], return_tensors="pt")
    with torch.inference_mode():
        output = loaded.model(**inputs)
    reference = loaded.processor.post_process_grounded_object_detection(
        output, threshold=0.3, target_sizes=torch.tensor([[40, 60]])
    )[0]
    assert len(found.boxes) == len(reference["boxes"]) > 1
    assert found.phrase_index.tolist() == reference["labels"].tolist()
    np.testing.assert_allclose(found.score, reference["scores"].numpy(), atol=1e-6)
    np.testing.assert_allclose(
        found.boxes, from_pixels(reference["boxes"].double().numpy(), 60, 40), atol=1e-5
    )


def answer_of(tokenizer: Any, text: str) -> Answer:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Answer(text, 0.5, len(ids), tuple(ids), tuple(-0.1 * position for position in range(len(ids))))


def test_florence_answers_are_read_as_transformers_reads_them(checkpoint: Checkpoint) -> None:
    loaded, _ = loaded_with("florence2", checkpoint)
    text = (
        "<s>a red apple<loc_52><loc_330><loc_400><loc_610>two cars<loc_1><loc_2><loc_3><loc_4>"
        "<loc_500><loc_0><loc_999><loc_10>a thing<loc_7><loc_8></s>"
    )
    found = florence.read_answer(
        loaded.tokenizer, answer_of(loaded.tokenizer, text), ("Two cars", "red apple"), (0, 1)
    )
    reference = loaded.processor.post_processor.parse_phrase_grounding_from_text_and_spans(
        text, (100_000, 100_000)
    )
    boxes = np.array([box for entry in reference for box in entry["bbox"]], dtype=np.float64)
    np.testing.assert_allclose(found.boxes, from_pixels(boxes, 100_000, 100_000), atol=1e-6)
    assert found.phrase_index.tolist() == [1, 0, 0]
    assert found.labels == ["red apple", "Two cars", "Two cars"]
    # "<s>" and eleven letters come before the first place: positions 12 to 15, words 1 to 11.
    assert found.score[0] == pytest.approx(np.exp(-0.1 * np.mean([12, 13, 14, 15])))
    assert found.name_score[0] == pytest.approx(np.exp(-0.1 * np.mean(range(1, 12))))


@pytest.mark.parametrize(
    ("words", "index"),
    [
        ("A red  apple", 1), ("apple", 0), ("the red apple", 0), ("red apple", 1), ("pine", -1), ("", -1),
        ("pineapple", -1),
    ],
)  # fmt: skip
def test_words_are_matched_to_phrases(words: str, index: int) -> None:
    assert florence.match_phrase(words, ["apple", "a red apple", ""]) == index


def test_places_are_grouped() -> None:
    groups = florence.group_places([None, -1, -1, 1, 2, 3, 4, 5, -1, 9, 9, 9, None])
    assert groups == [florence.Grounded((1, 2), ((3, 4, 5, 6),))]
    assert florence.group_places([]) == []


def test_the_best_boxes_with_an_area_are_kept() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9], [0, 0, 1, 1], [0.1, 0.1, 0.2, 0.2]])
    found = Found(boxes, np.arange(4), list("abcd"), np.array([0.1, 0.9, 0.5, 0.5]), np.ones(4))
    assert best(found, 2).labels == ["c", "d"]
    assert best(found, 9).labels == ["c", "d", "a"]


def test_a_broken_image_is_named(checkpoint: Checkpoint) -> None:
    rows = pa.table({"sample_id": ["torn"], "image": [b"x"], "phrases": [["a"]]})
    with pytest.raises(FoundryError, match="sample torn"):
        run(settings_of("owlv2", checkpoint), rows)
