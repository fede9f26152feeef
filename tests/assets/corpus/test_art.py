from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from assets.corpus import art
from assets.corpus.world import Concept
from training.errors import FoundryError


def test_about_1900_named_pictures_without_skin_tones() -> None:
    names = list(art.drawings())
    assert 1800 < len(names) < 2100
    assert names == sorted(names)
    assert {"red apple", "dog face", "sun", "automobile"} <= set(names)
    assert not [name for name in names if "skin tone" in name]
    assert all(path.is_file() for path in list(art.drawings().values())[::50])


def test_render_shows_the_thing_it_names() -> None:
    apple = art.render("red apple", 48)
    assert apple.shape == (48, 48, 4)
    visible = apple[apple[..., 3] > 200][:, :3].astype(int)
    red, green, blue = np.median(visible, axis=0)
    assert red > 180
    assert green < 100
    assert blue < 100
    assert apple[0, 0, 3] == 0  # corners are transparent
    assert np.array_equal(apple, art.render("red apple", 48))


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(FoundryError, match=r"'red aple'.*'red apple'"):
        art.render("red aple", 48)
    with pytest.raises(FoundryError, match="no name is near"):
        art.render("xqxqxqxqxqxq", 48)


@pytest.mark.parametrize("size_px", [3, 0, -1, 5000])
def test_impossible_size_is_refused(size_px: int) -> None:
    with pytest.raises(FoundryError, match=f"size_px is {size_px}"):
        art.render("sun", size_px)


def test_bank_pictures_are_the_rendered_drawings() -> None:
    concepts = [
        look
        for name, picture in (("dog", "dog face"), ("car", "automobile"))
        for look in Concept(name=name, picture=picture).looks
    ]
    bank = art.bank_pictures(concepts, 32)
    assert list(bank) == ["dog", "car"]
    decoded = np.asarray(Image.open(io.BytesIO(bank["car"])).convert("RGBA"))
    assert np.array_equal(decoded, art.render("automobile", 32))


def test_the_credit_names_author_and_licence() -> None:
    assert art.LICENSE == "CC-BY-4.0"
    assert "Twitter" in art.ATTRIBUTION
    assert "CC-BY 4.0" in art.ATTRIBUTION
