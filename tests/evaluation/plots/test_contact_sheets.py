"""Contact sheets hold the pictures where they should be, and survive any caption."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluation.plots.contact_sheets import BOX_COLORS, GAP, NamedBox, contact_sheet, inline_jpeg, safe_text
from training.errors import FoundryError


def _flat(color: tuple[int, int, int], height: int = 8, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), color, dtype=np.uint8)


def test_every_picture_is_in_its_cell() -> None:
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    sheet = contact_sheet([_flat(color) for color in colors], columns=3, tile=32)
    assert sheet.size == (3 * (32 + GAP) + GAP, 2 * (32 + GAP) + GAP)
    for index, color in enumerate(colors):
        centre = (GAP + index % 3 * (32 + GAP) + 16, GAP + index // 3 * (32 + GAP) + 16)
        assert sheet.getpixel(centre) == color


def test_pixels_of_a_small_picture_stay_sharp() -> None:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[0, 0] = 255
    sheet = np.asarray(contact_sheet([image], tile=32))[GAP : GAP + 32, GAP : GAP + 32]
    assert set(np.unique(sheet)) == {0, 255}
    assert (sheet[:16, :16] == 255).all()


def test_wide_pictures_keep_their_shape() -> None:
    sheet = np.asarray(contact_sheet([_flat((0, 0, 0), 10, 40)], tile=40))[GAP : GAP + 40, GAP : GAP + 40]
    dark = (sheet == 0).all(axis=2)
    assert dark.any(axis=1).sum() == 10
    assert dark.any(axis=0).sum() == 40


def test_boxes_are_drawn_at_their_place_even_when_out_of_range() -> None:
    box = NamedBox("", (0.25, 0.5, 0.75, 2.0))
    sheet = np.asarray(contact_sheet([_flat((255, 255, 255))], boxes=[[box]], tile=100))
    drawn = (sheet != 255).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert columns[0] - GAP == pytest.approx(25, abs=2)
    assert columns[-1] - GAP == pytest.approx(75, abs=2)
    assert rows[0] - GAP == pytest.approx(50, abs=2)
    assert rows[-1] < GAP + 100


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.integers(4, 60))
def test_any_text_becomes_one_short_printable_line(text: str, limit: int) -> None:
    line = safe_text(text, limit)
    assert len(line) <= limit
    assert "\n" not in line
    assert all(c.isprintable() for c in line)


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=200))
def test_any_caption_can_be_drawn(caption: str) -> None:
    box = NamedBox(caption, (0.1, 0.1, 0.5, 0.5))
    sheet = contact_sheet([_flat((9, 9, 9))], [caption], [[box]], tile=64)
    assert sheet.width == 64 + 2 * GAP


def test_caption_stays_inside_its_column() -> None:
    sheet = contact_sheet([_flat((0, 0, 0))] * 2, ["w" * 200, ""], tile=64)
    pixels = np.asarray(sheet)[GAP + 66 :, GAP + 64 + GAP // 2 :]
    assert (pixels == 255).all()


def test_jpeg_keeps_its_limit_and_shrinks_when_it_must() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    roomy = inline_jpeg(Image.fromarray(noise))
    tight = inline_jpeg(Image.fromarray(noise), max_bytes=4000)
    assert len(tight) <= 4000 < len(roomy) <= 120_000
    assert Image.open(io.BytesIO(roomy)).size == (256, 256)
    assert Image.open(io.BytesIO(tight)).width < 256
    with pytest.raises(FoundryError, match="do not fit in 100 bytes"):
        inline_jpeg(Image.fromarray(noise), max_bytes=100)


def test_bad_input() -> None:
    with pytest.raises(FoundryError, match="found no pictures"):
        contact_sheet([])
    with pytest.raises(FoundryError, match="1 captions for 2 pictures"):
        contact_sheet([_flat((0, 0, 0))] * 2, ["one"])
    with pytest.raises(FoundryError, match="tile 4"):
        contact_sheet([_flat((0, 0, 0))], tile=4)


def test_dropped_boxes_are_dashed_and_kept_ones_solid() -> None:
    corner = (0.25, 0.25, 0.75, 0.75)
    edges = []
    for box in (NamedBox("", corner), NamedBox("", corner, "low_score")):
        sheet = np.asarray(contact_sheet([_flat((0, 0, 0))], boxes=[[box]], tile=100))
        edges.append(
            (sheet == BOX_COLORS[0]).all(axis=2)[GAP + 30 : GAP + 65, GAP + 24 : GAP + 27].any(axis=1)
        )
    assert edges[0].all()
    assert edges[1].any()
    assert not edges[1].all()


def test_names_stay_in_their_picture_and_off_one_another() -> None:
    boxes = [NamedBox("a long name of a thing", (0.8, 0.0, 1.0, 0.9)), NamedBox("dog", (0.8, 0.01, 1.0, 0.9))]
    sheet = np.asarray(contact_sheet([_flat((255, 255, 255))], boxes=[boxes], tile=160))
    assert (sheet[:, : GAP - 1] == 255).all()
    assert (sheet[:, GAP + 160 :] == 255).all()
    for color in BOX_COLORS[:2]:
        grounds = (sheet == color).all(axis=2).sum()
        assert grounds > 150, "both names have their ground"
