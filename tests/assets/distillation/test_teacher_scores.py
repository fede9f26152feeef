"""What a teacher's scores mean: real pictures reach the ceiling, pictures of other prompts the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assets.corpus.art import bank_pictures
from assets.corpus.scenes import build_scenes, load_world
from assets.distillation.teacher_scores import (
    CaptionedScenes,
    bars,
    score_pictures,
    scores_markdown,
    teacher_card,
    verdict,
)
from assets.graph.interfaces import BatchWorker, Model, Perception, PerceptionModel
from evaluation.metrics.binding import Colored
from evaluation.metrics.placement import Wanted
from evaluation.perception.embedded.bank import build_bank
from evaluation.perception.embedded.perceiver import build_embedded_perceiver
from evaluation.perception.roles import Role
from orchestration.profile import load_profile
from training.errors import FoundryError

WORLD = load_profile("smoke").world_path
COUNT = 12


class Remembering:
    """A judge that knows each picture's own text by heart: what a perfect one would say of real pictures."""

    def __init__(self, images: np.ndarray, texts: tuple[str, ...]) -> None:
        self._images, self._texts = [image.tobytes() for image in images], list(texts)

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        return np.eye(COUNT, dtype=np.float32)[[self._images.index(image.tobytes()) for image in images]]

    def embed_texts(self, texts: tuple[str, ...]) -> np.ndarray:
        return np.eye(COUNT, dtype=np.float32)[[self._texts.index(text) for text in texts]]


@pytest.fixture(scope="module")
def scenes() -> CaptionedScenes:
    built = list(build_scenes(load_world(WORLD), "held_out_images", COUNT, 5))
    ids = tuple(f"scene-{index}" for index in range(COUNT))
    alone = [
        (key, shown)
        for key, scene in zip(ids, built, strict=True)
        for shown in scene.objects
        if [other.name for other in scene.objects].count(shown.name) == 1
    ]
    return CaptionedScenes(
        ids,
        tuple(f"scene {key}" for key in ids),
        np.stack([s.image for s in built]),
        tuple(Wanted(key, shown.name, shown.box_xyxy_norm) for key, shown in alone),
        tuple(
            Colored(key, shown.name, shown.color, shown.box_xyxy_norm) for key, shown in alone if shown.color
        ),
    )


def any_sentences(texts: Sequence[str]) -> np.ndarray:
    """Directions without meaning: words beside the bank play no part here, and MiniLM takes ten seconds for them."""
    drawn = np.random.default_rng(0).normal(size=(len(texts), 16))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


class Embedded:
    """The embedded perception with a bank of the world's concepts and a vocabulary of two words."""

    def __init__(self, *, roles: tuple[Role, ...] = ("regions", "closed_set")) -> None:
        pictures = bank_pictures(load_world(WORLD).training_looks)
        self._bank = build_bank(pictures, ("thing", "place"), any_sentences).to_bytes() if roles else b""
        self._roles = roles

    def model(self, role: Role) -> PerceptionModel | None:
        settings = {"bank": self._bank, "closed_set": role == "closed_set"}
        worker = BatchWorker(build_embedded_perceiver, settings)
        return Model("embedded", "0" * 64, lambda: worker) if role in self._roles else None

    def detectors(self) -> dict[str, PerceptionModel]:
        return {}


@pytest.fixture(scope="module")
def perception() -> Perception:
    return Embedded()


def scored(images: np.ndarray, scenes: CaptionedScenes, perception: Perception) -> dict[str, Any]:
    judge: Any = Remembering(scenes.images, scenes.prompts)
    return score_pictures(images, scenes, judge, perception)


def test_real_pictures_reach_the_ceiling_and_shifted_ones_the_floor(
    scenes: CaptionedScenes, perception: Perception
) -> None:
    real = scored(scenes.images, scenes, perception)
    assert real["judge_top1_of_8"] == {"value": 1.0, "low": 1.0, "high": 1.0, "chance": 1 / 8}
    assert "judge_top1_of_32" not in real  # there are not so many prompts
    assert real["centres_hit"]["value"] >= 0.9
    assert real["named_centres_hit"]["value"] <= real["centres_hit"]["value"]
    wanted = {**bars(real), "judge_top1_of_8": 0.75}
    assert wanted == {"objects_shown": 0.7, "centres_hit": 0.5, "judge_top1_of_8": 0.75}
    assert set(verdict(real, wanted).values()) == {"holds"}
    shifted = scored(np.roll(scenes.images, 1, axis=0), scenes, perception)
    assert shifted["judge_top1_of_8"]["value"] == 0.0
    assert shifted["centres_hit"]["value"] < 0.4
    assert verdict(shifted, wanted) == dict.fromkeys(wanted, "fails")
    # the floor is what the pictures of other prompts hit, so it hardly depends on how they are dealt out
    assert shifted["centres_hit"]["floor"] == pytest.approx(real["centres_hit"]["floor"], abs=0.1)


def test_the_judge_s_bar_is_three_quarters_of_what_reconstructions_allow() -> None:
    assert bars({"judge_top1_of_32": {"value": 0.8}})["judge_top1_of_32"] == pytest.approx(0.6)


def test_colours_are_scored_where_the_prompt_says_them(
    scenes: CaptionedScenes, perception: Perception
) -> None:
    """Real pictures by the colours they were drawn with, and by colours exchanged among them."""
    real = scored(scenes.images, scenes, perception)
    assert real["colors_bound"]["value"] >= 0.9
    assert real["colors_bound"]["num"] > 4
    wrong = tuple(replace(item, color="teal") for item in scenes.colored)
    assert scored(scenes.images, replace(scenes, colored=wrong), perception)["colors_bound"]["value"] == 0.0


def test_blurred_pictures_lose_their_names_first(scenes: CaptionedScenes, perception: Perception) -> None:
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(scenes.images, sigma=(0, 2, 2, 0))
    remembered = CaptionedScenes(scenes.sample_ids, scenes.prompts, blurred, scenes.wanted)
    found = scored(blurred, remembered, perception)
    assert found["named_centres_hit"]["value"] < found["centres_hit"]["value"]


def test_a_role_that_is_empty_is_named(scenes: CaptionedScenes) -> None:
    blind = Embedded(roles=())
    with pytest.raises(FoundryError, match="role 'closed_set' is empty"):
        scored(scenes.images, scenes, blind)


def test_the_card_says_what_was_missed() -> None:
    figures = {"value": 0.5, "low": 0.4, "high": 0.7}
    own = {
        "judge_top1_of_8": {"value": 0.8, "low": 0.7, "high": 0.9, "chance": 0.125},
        "centres_hit": {**figures, "floor": 0.1},
        "num_pictures": 4,
        "num_objects": 6,
    }
    tops = {
        name: dict.fromkeys(("judge_top1_of_8", "centres_hit"), figures) for name in ("real", "reconstructed")
    }
    tops["captions"] = {"centres_hit": {"value": 0.6}}
    wanted = {"judge_top1_of_8": 0.6, "centres_hit": 0.5}
    scores = {
        "teacher": own,
        "ceilings": tops,
        "bars": wanted,
        "verdict": verdict(own, wanted),
        "sampling": {"num_steps": 16, "guidance": 3.0},
    }
    assert scores["verdict"] == {"judge_top1_of_8": "holds", "centres_hit": "inside the noise"}
    table = scores_markdown(scores)
    assert (
        "| objects' centres hit, closest concept | 0.500 (0.400 to 0.700) | 0.100 | 0.500 | 0.500 | 0.600 | 0.500: inside the "
        "noise |" in table
    )
    card = teacher_card("# small\n", scores)
    assert card.startswith("# small\n")
    assert "missed or not clearly passed: objects' centres hit, closest concept." in card
