"""Phrases by a language model: its answers read strictly, asked once more, placed in the caption."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from evaluation.perception.hub.models import HubPerceptionModel
from evaluation.perception.hub.phrases import Phrase, head_noun, locate, parse_phrases, singular
from evaluation.tables.perception import PHRASES
from tests.evaluation.perception.hub.finders import llm
from training.errors import FoundryError

LIST = '["Two Cars on a road", {"phrase": "a red apple", "head": "Apples"}]'


def run(folder: Path, batch_size: int = 8) -> pa.Table:
    rows = pa.table(
        {"sample_id": ["s", "t"], "caption": ["There is a Red\n apple.", "Nothing of {that}, {caption}."]}
    )
    settings = {
        "family": "llm", "path": str(folder), "device": "cpu", "batch_size": batch_size,
        "decoding": {"max_new_tokens": 1},
    }  # fmt: skip
    factory, kwargs = HubPerceptionModel("tiny", settings, "phrases").worker()
    return factory(**kwargs)(rows)


def test_phrases_of_captions(tmp_path: Path) -> None:
    table = run(llm(tmp_path / "m", LIST))
    assert table.schema.equals(PHRASES)
    found = [tuple(row[name] for name in PHRASES.names[:6]) for row in table.to_pylist()]
    assert found == [
        (
            "s",
            0,
            "a red apple",
            "apple",
            9,
            21,
        ),  # the caption's words come first, whatever their case and spaces
        ("s", 1, "Two Cars on a road", "car", -1, -1),
        ("t", 0, "Two Cars on a road", "car", -1, -1),
        ("t", 1, "a red apple", "apple", -1, -1),
    ]
    assert run(tmp_path / "m", batch_size=1).equals(table)


def test_an_unreadable_answer_is_asked_for_once_more(tmp_path: Path) -> None:
    table = run(llm(tmp_path / "m", "Sure, here they are!", '["a red apple"]'))
    assert table["phrase"].to_pylist() == ["a red apple", "a red apple"]


def test_a_second_unreadable_answer_fails_the_sample_by_name(tmp_path: Path) -> None:
    folder = llm(tmp_path / "m", "Sure, here they are!", "[sorry")
    with pytest.raises(FoundryError, match=r"sample s: .* also when asked again: '\[sorry'"):
        run(folder)


def test_a_model_without_chat_template_is_refused(tmp_path: Path) -> None:
    folder = llm(tmp_path / "m", LIST)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(FoundryError, match="needs the checkpoint's chat template"):
        run(folder)


@pytest.mark.parametrize(
    ("answer", "phrases"),
    [
        ("[]", []),
        ('```json\n["a dog", "A  dog", ""]\n```', [Phrase("a dog", "dog")]),
        ('Here: [{"phrase": "glasses of wine"}] Done.', [Phrase("glasses of wine", "glass")]),
        ('[{"phrase": "old men", "head": "man"}]', [Phrase("old men", "man")]),
        ("a dog, a cat", None),
        ('["a dog", 3]', None),
        ('["a dog", [1]]', None),
        ('[{"name": "a dog"}]', None),
        ('["a dog"', None),
        ("", None),
    ],
)
def test_answers_are_read_strictly(answer: str, phrases: list[Phrase] | None) -> None:
    assert parse_phrases(answer) == phrases


def test_heads_and_singulars() -> None:
    assert [head_noun(phrase) for phrase in ("a cup of tea", "the blue ball.", "of", "")] == [
        "cup",
        "ball",
        "of",
        "",
    ]
    nouns = [
        "berries",
        "boxes",
        "cars",
        "glass",
        "glasses",
        "bus",
        "buses",
        "vases",
        "houses",
        "dishes",
        "gas",
        "tie",
    ]
    singulars = ["berry", "box", "car", "glass", "glass", "bus", "bus", "vase", "house", "dish", "gas", "tie"]
    assert [singular(noun) for noun in nouns] == singulars


def test_words_are_found_whole() -> None:
    assert locate("a car", "a carpet and A car.") == (13, 18)
    assert locate("c++ (book)", "the C++  (book) here") == (4, 15)
    assert locate("cat", "concatenate") == (-1, -1)
