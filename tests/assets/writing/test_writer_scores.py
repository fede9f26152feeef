"""Signs are scored by what OCR reads and by the colour they have; real ones come out right, others do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assets.corpus.scenes import build_scenes
from assets.corpus.signs import SignWorld, sign_text
from assets.corpus.worlds import load_any_world
from assets.writing.text_model import OcrEngine
from assets.writing.writer_scores import Signs, nearest_colors, score_signs, writer_markdown
from evaluation.localization.runs import Reading
from evaluation.perception.ocr.rapid import RapidReader
from orchestration.profile import load_profile

COLORS = {"red": "#c82828", "blue": "#2846be", "green": "#1e823c", "black": "#1e1e1e"}
PALETTE = {"red": (200, 40, 40), "blue": (40, 70, 190), "green": (30, 130, 60), "black": (30, 30, 30)}


@pytest.fixture(scope="module")
def signs() -> Signs:
    """Real signs."""
    scenes = list(build_scenes(SignWorld(kind="signs", colors=COLORS), "held_out_concepts", 16, 0))
    return Signs(
        tuple(scene.alt_text for scene in scenes),
        tuple(scene.word for scene in scenes),
        tuple(scene.background.split()[0] for scene in scenes),
        np.stack([scene.image for scene in scenes]),
    )


@pytest.fixture(scope="module")
def engine() -> OcrEngine:
    """The default engine, without a worker around it."""
    reader = RapidReader()

    def read(images: Any) -> list[Reading]:
        return [Reading(" ".join(line.text for line in reader.lines(image))) for image in images]

    return OcrEngine(reader.name, reader.digest, read)


def test_real_signs_are_read_and_have_their_colour(signs: Signs, engine: OcrEngine) -> None:
    found = score_signs(signs.images, signs, PALETTE, engine)
    told = found.told()
    assert told["f1"]["value"] > 0.95
    assert told["color"]["value"] == 1
    assert 0.1 < told["chance"] < 0.5
    shifted = score_signs(np.roll(signs.images, 1, axis=0), signs, PALETTE, engine).told()
    assert shifted["f1"]["value"] < 0.5
    assert shifted["exact"]["value"] == 0


def test_colour_is_that_of_what_is_neither_wall_nor_letter() -> None:
    image = np.full((32, 64, 3), 220, np.uint8)
    image[4:28, 1:63] = (45, 66, 182)
    image[12:20, 20:44] = 247
    assert nearest_colors(np.stack([image, np.full_like(image, 255)]), PALETTE)[0] == "blue"


def test_a_page_names_engine_and_ceilings(signs: Signs, engine: OcrEngine) -> None:
    told = score_signs(signs.images, signs, PALETTE, engine).told()
    scores = {
        "real": told, "reconstructed": told, "drawn": told, "num_signs": 16, "read_by": engine.name,
        "sampling": {"num_steps": 16, "guidance": 1.0},
    }  # fmt: skip
    text = writer_markdown(scores)
    assert engine.name in text
    assert text.index("real signs") < text.index("drawn")
    assert "16 signs with strings that no training picture shows" in text


@pytest.mark.parametrize("name", ["signs", "plates"])
def test_profiles_encode_signs_as_wide_as_they_are(name: str) -> None:
    profile = load_profile(name)
    world = load_any_world(profile.world_path)
    assert isinstance(world, SignWorld)
    width, height = world.size_px
    assert profile.assets["image_latents"]["buckets"] == [f"{height}x{width}"]
    longest = "x" * world.letters[1]
    assert all(len(sign_text(color, longest)) <= profile.text_encoder.max_tokens for color in world.colors)
