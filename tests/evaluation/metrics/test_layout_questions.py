"""The questions are LayoutSAM-Eval's to the letter, and crops follow the picture's own size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics.layout_questions import (
    attribute_question,
    attributes_of,
    crop_box_px,
    is_yes,
    scores_of,
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


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda v: v[0] != v[1] and v[2] != v[3]),
)
def test_crops_lie_in_the_picture(width: int, height: int, values: list[float]) -> None:
    (x1, x2), (y1, y2) = sorted(values[:2]), sorted(values[2:])
    left, top, right, bottom = crop_box_px((x1, y1, x2, y2), width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert abs(left - x1 * width) <= 1
    assert abs(bottom - y2 * height) <= 1


def test_crop_scales_with_the_picture() -> None:
    box = (0.25, 0.5, 0.75, 1.0)
    assert crop_box_px(box, 1024, 1024) == (256, 512, 768, 1024)
    assert crop_box_px(box, 64, 128) == (16, 64, 48, 128)
    for bad in ((0.5, 0.0, 0.2, 1.0), (0.0, 0.0, 1.5, 1.0), (0.0, 0.0, float("nan"), 1.0)):
        with pytest.raises(FoundryError, match="crop: box"):
            crop_box_px(bad, 64, 64)
    with pytest.raises(FoundryError, match="0 x 4"):
        crop_box_px(box, 0, 4)


def test_attributes_never_score_above_spatial() -> None:
    hits = [
        {"spatial": True, "color": True, "texture": False, "shape": True},
        {"spatial": False, "color": True, "texture": True, "shape": True},
    ]
    assert scores_of(hits) == {"spatial": 0.5, "color": 0.5, "texture": 0.0, "shape": 0.5}
    with pytest.raises(FoundryError, match="no boxes"):
        scores_of([])
