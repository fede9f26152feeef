"""Compressed run lengths against pycocotools, which defines them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.perception.run_lengths import decode_mask, encode_mask, mask_area
from training.errors import FoundryError

coco_mask = pytest.importorskip("pycocotools.mask")


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Noise at any density, sometimes enlarged so that runs are long."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    scale = draw(st.sampled_from([1, 1, 3, 40]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = random.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    return mask.repeat(scale, 0).repeat(scale, 1)


@settings(max_examples=150, deadline=None)
@given(masks())
def test_writes_what_pycocotools_writes_and_reads_it_back(mask: np.ndarray) -> None:
    reference = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = encode_mask(mask)
    assert text == reference["counts"].decode()
    assert (decode_mask(text, *mask.shape) == mask).all()
    assert mask_area(text) == int(mask.sum()) == int(coco_mask.area(reference))


def test_runs_go_down_the_columns_and_start_with_background() -> None:
    mask = np.array([[True, False], [True, True]])
    # Columns: 1 1 / 0 1, so runs 0, 2, 1, 1; the fourth is written as 1 - 2.
    assert encode_mask(mask) == "".join(chr(48 + code) for code in (0, 2, 1, -1 & 0x1F))


@pytest.mark.parametrize("text", ["", "0P", "~~", "é", "p"])
def test_refuses_text_that_is_no_run_lengths(text: str) -> None:
    with pytest.raises(FoundryError, match="mask_rle"):
        decode_mask(text, 2, 2)


def test_refuses_another_size_and_endless_numbers() -> None:
    text = encode_mask(np.ones((3, 4), dtype=bool))
    with pytest.raises(FoundryError, match="cover 12 pixels, not the 20"):
        decode_mask(text, 4, 5)
    with pytest.raises(FoundryError, match="13 characters"):
        decode_mask("P" * 12 + "0", 1, 1)
