"""The embedded judge looks at composed pictures whose truth is known, and at a photograph of nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from evaluation.perception.embedded.answer_worker import AnswerWorker
from evaluation.perception.embedded.bank import ConceptBank
from evaluation.perception.questions import attribute_question, spatial_question
from evaluation.tables.perception import ANSWERS
from tests.evaluation.perception.composites import Box, background, paste, png
from training.errors import FoundryError

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def worker(bank: ConceptBank) -> AnswerWorker:
    return AnswerWorker(bank, "judge", "d", 0.55, known_drawings=False)


@pytest.fixture(scope="module")
def scene() -> tuple[bytes, Box, Box]:
    """An apple on the left, a tree on the right, and where they are."""
    canvas, apple = paste(background("plain", "white", "white"), "apple", 2, 20, 26)
    canvas, tree = paste(canvas, "tree", 36, 20, 26)
    return png(canvas), apple, tree


def _ask(worker: AnswerWorker, image: bytes, asked: Sequence[tuple[str, Box]]) -> list[bool]:
    rows = pa.table(
        {
            "question_id": [str(number) for number in range(len(asked))],
            "question": [question for question, _ in asked],
            "box_xyxy_norm": pa.array([list(box) for _, box in asked], pa.list_(pa.float32(), 4)),
            "image": [image] * len(asked),
        }
    )
    answers = worker(rows)
    assert answers.schema.equals(ANSWERS, check_metadata=True)
    assert answers["question_id"].to_pylist() == rows["question_id"].to_pylist()
    assert [text == "Yes" for text in answers["answer"].to_pylist()] == answers["is_yes"].to_pylist()
    found: list[bool] = answers["is_yes"].to_pylist()
    return found


def test_what_is_in_the_box_and_what_is_not(worker: AnswerWorker, scene: tuple[bytes, Box, Box]) -> None:
    image, apple, tree = scene
    asked = [
        ("a red apple", apple),
        ("an apple", tree),
        ("a tree", tree),
        ("a cat", apple),
        ("an apple", WHOLE),
    ]
    questions = [(spatial_question(phrase), box) for phrase, box in asked]
    assert _ask(worker, image, questions) == [True, False, True, False, True]
    assert _ask(worker, image, questions[::-1]) == [True, False, True, False, True], "order changes nothing"


def test_colours_are_measured_on_what_was_recognised(
    worker: AnswerWorker, scene: tuple[bytes, Box, Box]
) -> None:
    image, apple, tree = scene

    def about(attribute: str, phrase: str, detail: str, box: Box) -> tuple[str, Box]:
        return attribute_question(phrase, attribute, detail), box

    asked = [
        about("color", "an apple", "a red apple", apple),
        about("color", "an apple", "a blue apple", apple),
        about("color", "an apple", "an apple", apple),
        about("color", "a tree", "a green tree", tree),
        about("color", "an apple", "a red apple", WHOLE),
        about("color", "a tree", "a red tree", WHOLE),
        about("texture", "an apple", "a furry apple", apple),
        about("shape", "a tree", "a square tree", tree),
    ]
    assert _ask(worker, image, asked) == [True, False, True, True, True, False, True, False]


def test_a_photograph_has_no_places_and_its_crop_is_looked_at(worker: AnswerWorker) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    patch, _ = paste(background("plain", "white", "white"), "apple", 16, 16, 32)
    noise[16:80, 16:80] = patch
    box: Box = (16 / 96, 16 / 96, 80 / 96, 80 / 96)
    asked = [(spatial_question("an apple"), box), (spatial_question("a tree"), box)]
    assert _ask(worker, png(noise), asked) == [True, False]
    color = attribute_question("an apple", "color", "a red apple"), box
    assert _ask(worker, png(noise), [color]) == [True]


def test_other_questions_and_broken_pictures_are_named(
    worker: AnswerWorker, scene: tuple[bytes, Box, Box]
) -> None:
    with pytest.raises(FoundryError, match="question 0: 'What is it\\?' is none of LayoutSAM-Eval's"):
        _ask(worker, scene[0], [("What is it?", WHOLE)])
    with pytest.raises(FoundryError, match="question 0: its image of 3 bytes cannot be decoded"):
        _ask(worker, b"xyz", [(spatial_question("an apple"), WHOLE)])


def test_what_was_looked_at_is_remembered_for_a_while(
    bank: ConceptBank, scene: tuple[bytes, Box, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation.perception.embedded import answer_worker

    monkeypatch.setattr(answer_worker, "REMEMBERED", 1)
    worker = AnswerWorker(bank, "judge", "d", 0.55, known_drawings=False)
    question = spatial_question("an apple")
    other, _ = paste(background("plain", "white", "white"), "apple", 30, 30, 24)
    for _ in range(2):
        assert _ask(worker, scene[0], [(question, WHOLE)]) == [True]
        assert _ask(worker, png(other), [(question, WHOLE)]) == [True]
    assert len(worker._seen) == 1
