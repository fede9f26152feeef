"""The questions are LayoutSAM-Eval's to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.perception.questions import (
    ATTRIBUTES,
    Asked,
    attribute_question,
    attributes_of,
    is_yes,
    read_question,
    spatial_question,
)
from training.errors import FoundryError


def test_questions_as_published() -> None:
    assert spatial_question("a red/white cup") == (
        'Is the subject "a redwhite cup" present in the image? Strictly answer with "Yes" or "No", without any '
        "irrelevant words."
    )
    assert attribute_question("cup", "color", "a red/white cup") == (
        'Is the subject in "cup" in the image consistent with the color described in the detailed description: '
        '"a redwhite cup"? Strictly answer with "Yes" or "No", without any irrelevant words. If the color is not '
        'mentioned in the detailed description, the answer is "Yes".'
    )
    with pytest.raises(FoundryError, match="'size'; allowed are color, texture, shape"):
        attribute_question("cup", "size", "a cup")


def test_answers() -> None:
    assert [is_yes(text) for text in ("Yes.", "yes", "No", "NO, it is not", "")] == [True, True] + [False] * 3


def test_attributes_are_whole_words_outside_quotes() -> None:
    found = attributes_of('A Grey striped square sign with the word "RED", a white edge and greyish dots')
    assert found == {"color": "gray and white", "texture": "striped", "shape": "square"}
    assert attributes_of("") == {"color": "", "texture": "", "shape": ""}


@given(st.text(max_size=30), st.text(max_size=60))
def test_questions_are_read_back(region: str, detail: str) -> None:
    region, detail = region.replace("/", ""), detail.replace("/", "")
    assert read_question(spatial_question(region)) == Asked("spatial", region)
    for attribute in ATTRIBUTES:
        question = attribute_question(region, attribute, detail)
        assert read_question(question) == Asked(attribute, region, detail)
    assert read_question(f"What is {region}?") is None
