from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assets.corpus import art
from assets.corpus.fluent_art import fluent_pictures, fluent_stem
from assets.corpus.scenes import load_world
from assets.corpus.world import Concept
from evaluation.perception.downloads import FLUENT, is_fetched
from evaluation.perception.embedded.identity import model_name
from tests.assets.corpus.makers import PROFILES
from training.errors import FoundryError

DOG, KEYCAP, ROOF = (
    look
    for name, picture in (("dog", "dog face"), ("hash", "keycap #"), ("roof", "derelict house"))
    for look in Concept(name=name, picture=picture).looks
)


def _archive(path: Path) -> Path:
    """An archive with a red dog and a blue keycap, named as the package names its drawings."""
    with tarfile.open(path, "w:gz") as opened:
        for stem, color in (("1f436", (255, 0, 0, 255)), ("0023-fe0f-20e3", (0, 0, 255, 255))):
            buffer = io.BytesIO()
            Image.new("RGBA", (32, 32), color).save(buffer, "WEBP", lossless=True)
            info = tarfile.TarInfo(f"package/assets/{stem}.webp")
            info.size = len(buffer.getvalue())
            opened.addfile(info, io.BytesIO(buffer.getvalue()))
    return path


def test_drawings_are_found_by_name_and_missing_ones_left_out(tmp_path: Path) -> None:
    found = fluent_pictures([DOG, KEYCAP, ROOF], 16, _archive(tmp_path / "art.tgz"))
    assert set(found) == {"dog", "hash"}
    picture = np.asarray(Image.open(io.BytesIO(found["dog"])))
    assert picture.shape == (16, 16, 4)
    assert (picture == (255, 0, 0, 255)).all()


def test_stems_are_the_qualified_code_points() -> None:
    assert fluent_stem("keycap #") == "0023-fe0f-20e3"
    assert fluent_stem("red apple") == "1f34e"
    assert fluent_stem("no such thing") == ""


def test_damaged_archives_and_other_art_are_named(tmp_path: Path) -> None:
    (tmp_path / "art.tgz").write_bytes(b"nothing")
    with pytest.raises(FoundryError, match="cannot be read .* make demo-data"):
        fluent_pictures([DOG], 16, tmp_path / "art.tgz")
    with pytest.raises(FoundryError, match="art is 'noto'"):
        art.bank_pictures([DOG], art="noto")


def test_the_models_name_says_whether_bank_and_scenes_share_drawings() -> None:
    assert "bank of the same drawings" in model_name("twemoji")
    assert "bank of Fluent drawings" in model_name("fluent")


@pytest.mark.needs_assets
@pytest.mark.skipif(not is_fetched(FLUENT), reason="the art was not fetched; run: make demo-data")
def test_the_demos_concepts_have_fluent_drawings_of_their_own() -> None:
    world = load_world(PROFILES / "demo" / "world.yaml")
    concepts = [look for concept in world.all_concepts for look in concept.looks]
    fluent = art.bank_pictures(concepts, 64, art="fluent")
    assert len(fluent) >= 0.9 * len(concepts)
    twemoji = art.bank_pictures(concepts, 64)
    assert all(fluent[name] != twemoji[name] for name in fluent)
    assert all(np.asarray(Image.open(io.BytesIO(data)))[..., 3].mean() > 20 for data in fluent.values())
