from __future__ import annotations

import pytest

from assets.corpus import art
from evaluation.perception.bank import ConceptBank, build_bank, minilm_sentences
from tests.evaluation.perception.composites import PICTURES

VOCABULARY = ("soccer ball", "hammer", "apple", "drum", "cat", "tree", "fish", "umbrella", "candle")


@pytest.fixture(scope="session")
def bank() -> ConceptBank:
    """A bank of four concepts; "drum" stays out, to be unknown."""
    pictures = {name: art.render(picture, 72) for name, picture in PICTURES.items() if name != "drum"}
    return build_bank(pictures, VOCABULARY, minilm_sentences)
