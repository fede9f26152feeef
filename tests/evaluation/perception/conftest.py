from __future__ import annotations

import pytest

from assets.corpus import art
from evaluation.perception.embedded.bank import ConceptBank, build_bank
from tests.evaluation.perception.composites import PICTURES

VOCABULARY = ("soccer ball", "hammer", "apple", "drum", "cat", "tree", "fish", "umbrella", "candle")


@pytest.fixture(scope="session")
def bank() -> ConceptBank:
    """A bank of four concepts; "drum" stays out, to be unknown."""
    return build_bank(bank_pictures(), VOCABULARY)


def bank_pictures() -> dict[str, bytes]:
    """PNGs of all drawings but the drum's."""
    return {name: art.render_png(picture, 72) for name, picture in PICTURES.items() if name != "drum"}
