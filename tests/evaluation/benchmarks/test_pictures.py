"""Pictures that others drew are found by name, all of them, before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.benchmarks.pictures import pictures_of
from evaluation.benchmarks.samples import LayoutSample
from tests.evaluation.benchmarks.makers import picture
from training.errors import FoundryError


def _draw(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture((len(name), 0, 0)))
    return folder


def test_by_image_id_or_file_name_whatever_the_suffix(tmp_path: Path) -> None:
    samples = [LayoutSample("one.5", "", ()), LayoutSample("7", "", (), "sa_01/two.jpg")]
    found = pictures_of(_draw(tmp_path, "one.5.png", "deep/two.webp", "other.png", "notes.txt"), samples)
    assert {name: found.file(name).name for name in found} == {"one.5": "one.5.png", "7": "two.webp"}
    assert found["one.5"] == picture((len("one.5.png"), 0, 0))
    assert len(found) == 2
    assert "other" not in found


def test_missing_pictures_are_counted_and_named(tmp_path: Path) -> None:
    samples = [LayoutSample(f"s{number}", "", ()) for number in range(9)]
    with pytest.raises(
        FoundryError, match=r"8 of 9 samples have no picture, such as s1, s2, s3, s4, s5; a picture"
    ):
        pictures_of(_draw(tmp_path, "s0.png"), samples)
    with pytest.raises(FoundryError, match="no such folder"):
        pictures_of(tmp_path / "nowhere", samples)
    dotted = [LayoutSample("a.b", "", ())]
    with pytest.raises(FoundryError, match="1 of 1 samples"):
        pictures_of(_draw(tmp_path, "a.png"), dotted)


def test_pictures_that_cannot_be_told_apart_or_opened(tmp_path: Path) -> None:
    folder = _draw(tmp_path / "twice", "x.png", "sub/x.jpg")
    with pytest.raises(FoundryError, match="sample x: 2 pictures have its name"):
        pictures_of(folder, [LayoutSample("x", "", ())])
    folder = _draw(tmp_path / "shared", "x.png")
    with pytest.raises(FoundryError, match="is the picture of the samples x and y"):
        pictures_of(folder, [LayoutSample("x", "", ()), LayoutSample("y", "", (), "x.jpg")])
    (folder / "z.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "w.png").write_bytes(picture((1, 2, 3))[:60])
    with pytest.raises(FoundryError, match=r"2 of 3 pictures cannot be decoded, such as z.png .*; w.png"):
        pictures_of(folder, [LayoutSample(name, "", ()) for name in "xzw"])
