"""The judge's questions are fair, and its score is 1 for one who sees, a half for one who guesses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from evaluation.judge import Embedder, Judge, separation, swap_questions
from training.errors import FoundryError
from training.model_folders.contrastive import WordVocabulary, build_clip, model_config, save_contrastive
from training.recipes.contrastive import ContrastiveOptions

NAMES = ("apple", "bear", "car", "dog", "fish", "sun", "tree")


class _Seer:
    """Pictures carry their names as pixel flags; sees them with some noise."""

    def __init__(self, noise: float, seed: int = 0) -> None:
        self.noise = noise
        self.seed = seed

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        flags = images[:, 0, : len(NAMES), 0].astype(float)
        return self._unit(flags + self.noise * np.random.default_rng((7, self.seed)).normal(size=flags.shape))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._unit(np.array([[float(name in text.split(", ")) for name in NAMES] for text in texts]))

    @staticmethod
    def _unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class _Constant(_Seer):
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._unit(np.ones((len(texts), len(NAMES))))


def _scenes(count: int) -> tuple[list[list[str]], np.ndarray]:
    random = np.random.default_rng(1)
    drawn = [
        [str(n) for n in random.choice(NAMES, size=random.integers(1, 4), replace=False)]
        for _ in range(count)
    ]
    images = np.zeros((count, 8, 8, 3), dtype=np.uint8)
    for image, names in zip(images, drawn, strict=True):
        image[0, [NAMES.index(name) for name in names]] = 1
    return drawn, images


def test_exactly_one_object_is_swapped_for_one_that_is_not_there() -> None:
    drawn, _ = _scenes(200)
    for names, question in zip(drawn, swap_questions(drawn, NAMES), strict=True):
        right, wrong = question.right.split(", "), question.wrong.split(", ")
        assert right == names
        changed = [new for old, new in zip(right, wrong, strict=True) if old != new]
        assert len(changed) == 1
        assert changed[0] not in names


def test_a_question_depends_on_its_place_alone() -> None:
    drawn, _ = _scenes(10)
    assert swap_questions(drawn, NAMES)[:4] == swap_questions(drawn[:4], tuple(reversed(NAMES)))
    assert swap_questions(drawn, NAMES) != swap_questions(drawn, NAMES, seed=1)


def test_seeing_wins_and_guessing_does_not() -> None:
    drawn, images = _scenes(300)
    questions = swap_questions(drawn, NAMES)
    clear, dim = separation(_Seer(0.0), images, questions), separation(_Seer(1.0), images, questions)
    blind = [separation(_Seer(1e6, seed), images, questions) for seed in range(20)]
    assert clear.accuracy.value == 1.0
    assert clear.area.value > 0.95 > dim.area.value
    assert dim.above_chance
    assert np.mean([found.accuracy.value for found in blind]) == pytest.approx(0.5, abs=0.03)
    assert sum(found.above_chance for found in blind) <= 2


def test_ties_count_half() -> None:
    drawn, images = _scenes(50)
    found = separation(_Constant(0.0), images, swap_questions(drawn, NAMES))
    assert found.accuracy.value == 0.5
    assert found.area.value == 0.5


def test_area_against_counting_pairs() -> None:
    drawn, images = _scenes(12)
    questions = swap_questions(drawn, NAMES)
    judge = _Seer(0.7)
    pictures = judge.embed_images(images)
    right = [
        float(p @ t) for p, t in zip(pictures, judge.embed_texts([q.right for q in questions]), strict=True)
    ]
    wrong = [
        float(p @ t) for p, t in zip(pictures, judge.embed_texts([q.wrong for q in questions]), strict=True)
    ]
    counted = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in right for b in wrong])
    assert separation(judge, images, questions).area.value == pytest.approx(counted)


def test_bad_input() -> None:
    drawn, images = _scenes(3)
    with pytest.raises(FoundryError, match="picture 0 shows \\[\\]"):
        swap_questions([[]], NAMES)
    with pytest.raises(FoundryError, match="0 other names"):
        swap_questions([["apple"]], ["apple"])
    with pytest.raises(FoundryError, match="3 pictures and 2 questions"):
        separation(_Seer(0.0), images, swap_questions(drawn[:2], NAMES))


def test_a_saved_judge_is_loaded_and_says_which_words_it_never_saw(tmp_path: Path) -> None:
    vocabulary = WordVocabulary.of(["red apple, sun", "a bear"])
    options = ContrastiveOptions(embed_dim=16, image_width=8, text_width=16, text_layers=1, text_heads=2)
    config = model_config(options, 64, vocabulary.size)
    save_contrastive(tmp_path / "model", build_clip(config, seed=0), config, vocabulary)
    judge = Judge.load(tmp_path / "model")
    assert isinstance(judge, Embedder)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    pictures, texts = judge.embed_images(images), judge.embed_texts(["a bear", "red sun", "a bear"])
    np.testing.assert_allclose(np.linalg.norm(pictures, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(texts[0], texts[2])
    assert abs(texts[0] - texts[1]).max() > 1e-3
    assert judge.unknown_words("A red penguin, sun") == ["penguin"]


def test_a_folder_without_a_judge_is_named(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"open_clip_config.json: missing"):
        Judge.load(tmp_path)
