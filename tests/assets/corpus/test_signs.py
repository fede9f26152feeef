"""Signs say what their alt-text says, whatever the seed, and training never shows a held-out string."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.corpus.scenes import AnyWorld, World, build_scenes, land_scenes, load_any_world
from assets.corpus.signs import CAP_HEIGHT_PX, SignWorld, is_held_out, sign_text, word_ink
from evaluation.metrics.written_words import score_words
from evaluation.perception.ocr.rapid import RapidReader
from evaluation.perception.ocr.reading import joined
from training.errors import FoundryError
from training.recipes.validation import validate

COLORS = {"red": "#c82828", "blue": "#2846be", "black": "#1e1e1e"}
WORLD = SignWorld(kind="signs", colors=COLORS)


@given(st.integers(0, 10_000), st.sampled_from(["train", "judge", "held_out_images", "held_out_concepts"]))
@settings(max_examples=40, deadline=None)
def test_a_sign_is_what_its_truth_says(seed: int, split: str) -> None:
    (scene,) = build_scenes(WORLD, split, 1, seed)
    assert scene.image.shape == (32, 64, 3)
    assert is_held_out(scene.word) == (split == "held_out_concepts")
    assert 3 <= len(scene.word) <= 5
    color = scene.background.split()[0]
    assert scene.alt_text == sign_text(color, scene.word)
    assert scene.word_box_xyxy_norm is not None
    left, top, right, bottom = scene.word_box_xyxy_norm
    ink = np.argwhere((scene.image > 225).all(axis=2) & _on_sign(scene.image))
    assert (top * 32 - 1, left * 64 - 1) <= tuple(ink.min(axis=0))
    assert bottom * 32 >= ink.max(axis=0)[0]
    assert right * 64 >= ink.max(axis=0)[1]


def _on_sign(image: np.ndarray) -> np.ndarray:
    """Pixels that the sign covers: of rows whose second pixel is not the wall's all but the first and the last."""
    rows = np.abs(image[:, 1].astype(int) - image[:, 0]).sum(axis=1) > 0
    inside = np.arange(image.shape[1]) % (image.shape[1] - 1) > 0
    return rows[:, None] & inside


def test_signs_do_not_depend_on_how_many_are_asked_for() -> None:
    first = list(build_scenes(WORLD, "train", 3, 5))
    again = list(build_scenes(WORLD, "train", 8, 5))[:3]
    assert [scene.word for scene in first] == [scene.word for scene in again]
    assert all(np.array_equal(one.image, two.image) for one, two in zip(first, again, strict=True))


def test_capitals_are_as_high_as_said_and_ocr_reads_them() -> None:
    rows = np.nonzero((word_ink("HEX") >= 128).any(axis=1))[0]
    assert rows.max() - rows.min() + 1 == CAP_HEIGHT_PX
    scenes, reader = list(build_scenes(WORLD, "held_out_concepts", 12, 0)), RapidReader()
    read = [joined(reader.lines(scene.image))[0] for scene in scenes]
    assert score_words(read, [scene.word for scene in scenes]).f1().value > 0.95


def test_they_land_as_shards_with_their_truth(tmp_path: Path) -> None:
    truth = land_scenes(WORLD, tmp_path, {"train": 5, "held_out_concepts": 3}, 0, 4)
    shards = sorted(tmp_path.glob("*.parquet"))
    assert [path.name for path in shards] == [
        "scenes-held_out_concepts-00000.parquet", "scenes-train-00000.parquet", "scenes-train-00001.parquet",
    ]  # fmt: skip
    texts = {row for path in shards for row in pq.read_table(path)["text"].to_pylist()}
    assert all(f'"{word}"' in " ".join(texts) for word in truth["word"].to_pylist())
    assert truth["objects"].to_pylist() == [[]] * 8
    with pytest.raises(FoundryError, match="has no flawed scenes; set it to 0"):
        land_scenes(WORLD, tmp_path, {"train": 1}, 0, 4, flawed=2)


def test_words_are_made_of_the_worlds_alphabet() -> None:
    world = SignWorld(kind="signs", colors=COLORS, alphabet="HX37")
    words = [
        scene.word for split in ("train", "held_out_concepts") for scene in build_scenes(world, split, 40, 0)
    ]
    assert {letter for word in words if word is not None for letter in word} == set("HX37")


def test_a_world_file_says_which_kind_it_is(tmp_path: Path) -> None:
    path = tmp_path / "world.yaml"
    path.write_text('kind: signs\ncolors: {red: "#c82828", blue: "#2846be"}\n')
    found: AnyWorld = load_any_world(path)
    assert isinstance(found, SignWorld)
    assert found.drawings == {}
    profiles = Path(__file__).parents[3] / "orchestration" / "profiles"
    assert isinstance(load_any_world(profiles / "demo" / "world.yaml"), World)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"letters": [3, 6]}, "has room for 1 to 5"),
        ({"letters": [4, 3]}, "letters are 4 to 3"),
        ({"alphabet": "ABCA"}, "alphabet has 'A' more than once"),
        ({"alphabet": "abc"}, "alphabet"),
        ({"alphabet": "AB", "letters": [1, 3]}, "too few strings of 1 letters"),
        ({"size_px": [60, 32]}, "multiples of 8"),
        ({"vertical_jitter_px": 5}, "make either smaller"),
        ({"colors": {"red": "#c82828", "rouge": "#c82828"}}, "same colour"),
        ({"colours": {}}, "colors"),
    ],
)
def test_worlds_that_cannot_be_drawn_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(FoundryError, match=told):
        validate(SignWorld, {"kind": "signs", "colors": COLORS, **given}, "world.yaml")
