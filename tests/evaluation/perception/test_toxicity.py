"""The role toxicity: words of a list as OCR reads them, and a real text classifier by path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evaluation.perception.role_models import Nomination, Workplace, make_model
from evaluation.perception.roles import ROLES
from evaluation.perception.toxicity.listed import read_word_list, toxicity_of
from evaluation.tables.perception import TOXICITY
from tests.evaluation.perception.test_ocr import nothing_here
from training.errors import FoundryError

WORDS = ("fool", "idiot", "vermin")


@pytest.mark.parametrize(
    ("text", "toxic"),
    [
        ("fool", 1), ("FOOL!", 1), ("a fool", 1), ("fo ol", 1), ("food", 0), ("foolish", 0), ("", 0), ("idi0t", 1), ("idot", 1),
        ("idiots", 1), ("1d10t", 0), ("VERNIN", 1), ("vern", 0), ("open", 0),
    ],
)  # fmt: skip
def test_a_listed_word_is_found_as_it_is_read(text: str, toxic: float) -> None:
    assert toxicity_of(text, WORDS) == toxic


def test_the_packaged_list_says_where_it_comes_from() -> None:
    found = read_word_list()
    assert "T2I Foundry" in found.source
    assert "Apache-2.0" in found.license
    assert len(found.words) > 100
    assert list(found.words) == sorted({word.lower() for word in found.words})
    assert len(found.of_lengths(3, 5)) > 60


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """A workplace without a bank."""
    return Workplace(nothing_here, tmp_path, 1)


def answer(settings: dict[str, Any], workplace: Workplace, texts: list[str]) -> list[float]:
    model = make_model(Nomination("mine", ROLES["toxicity"], settings), workplace)
    factory, told = model.worker()
    table = factory(**told)(pa.table({"text_id": [str(n) for n in range(len(texts))], "text": texts}))
    assert table.schema == TOXICITY
    assert set(table["model_digest"].to_pylist()) == {model.digest}
    return [float(value) for value in table["toxicity"].to_pylist()]


def test_the_default_is_the_packaged_list_and_another_is_another_model(
    workplace: Workplace, tmp_path: Path
) -> None:
    own = tmp_path / "words.json"
    own.write_text(json.dumps({"source": "me", "license": "CC0-1.0", "words": ["Teapot"]}))
    texts = ["you fool", "a teapot", ""]
    assert answer({"family": "embedded"}, workplace, texts) == [1, 0, 0]
    assert answer({"family": "listed_words"}, workplace, texts) == [1, 0, 0]
    assert answer({"family": "listed_words", "words": str(own)}, workplace, texts) == [0, 1, 0]


def test_a_classifier_of_transformers_by_path(workplace: Workplace, tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "tiny", {0: "neutral", 1: "toxic"})
    told = {"family": "text_classifier", "path": str(folder)}
    toxic, other = (
        answer(told, workplace, ["fool fool", "open"]),
        answer({**told, "label": "neutral"}, workplace, ["fool fool", "open"]),
    )
    assert all(0 < score < 1 for score in toxic)
    assert toxic[0] != toxic[1]
    assert [first + second for first, second in zip(toxic, other, strict=True)] == pytest.approx(
        [1, 1], abs=1e-5
    )
    assert answer(told, workplace, ["  "]) == [0]
    with pytest.raises(FoundryError, match="'label' is 'toxik'; did you mean 'toxic'"):
        answer({**told, "label": "toxik"}, workplace, ["a"])


def tiny_classifier(folder: Path, labels: dict[int, str]) -> Path:
    """A random BERT of two layers with a vocabulary of its own."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fool", "open"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=6, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, id2label=labels,
            label2id={name: number for number, name in labels.items()}, initializer_range=0.5,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_mistakes_are_named(workplace: Workplace, tmp_path: Path) -> None:
    def make(role: str = "toxicity", **settings: Any) -> None:
        make_model(Nomination("mine", ROLES[role], settings), workplace)

    with pytest.raises(FoundryError, match="has no config.json"):
        make(family="text_classifier", path=str(tmp_path))
    with pytest.raises(FoundryError, match="path"):
        make(family="text_classifier")
    with pytest.raises(FoundryError, match="fills the role 'toxicity' only"):
        make(role="captioner", family="listed_words")
    with pytest.raises(FoundryError, match="cannot be read as JSON"):
        make(family="listed_words", words=str(tmp_path / "none.json"))
    (tmp_path / "bare.json").write_text('{"words": ["a"], "source": "me"}')
    with pytest.raises(FoundryError, match="'license' is missing"):
        make(family="listed_words", words=str(tmp_path / "bare.json"))
