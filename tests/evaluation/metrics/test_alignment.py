"""Alignment scores against counting over every possible draw of distractors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluation.metrics.alignment import score_pairs, summarise_pairs
from training.errors import FoundryError


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _embeddings(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    texts = _unit(random.normal(size=(count, 16)))
    return _unit(texts + noise * random.normal(size=(count, 16))), texts


@pytest.mark.parametrize("k", [2, 4])
def test_top1_equals_the_share_of_all_draws(k: int) -> None:
    images, texts = _embeddings(7, 0.4)
    scores = score_pairs(images, texts, [f"prompt {i}" for i in range(7)], k=k)
    for i in range(7):
        others = [j for j in range(7) if j != i]
        draws = list(itertools.combinations(others, k - 1))
        won = sum(all(images[i] @ texts[i] > images[i] @ texts[j] for j in draw) for draw in draws)
        assert scores.top1_of_k[i] == pytest.approx(won / len(draws))
        assert scores.shuffled_cosine[i] == pytest.approx(np.mean([images[i] @ texts[j] for j in others]))


def test_same_prompt_is_no_distractor() -> None:
    images, texts = _embeddings(6, 0.3)
    once = score_pairs(images, texts, list("abcdef"), k=3)
    twice = score_pairs(np.tile(images, (2, 1)), np.tile(texts, (2, 1)), list("abcdef") * 2, k=3)
    np.testing.assert_allclose(twice.top1_of_k[:6], once.top1_of_k)
    np.testing.assert_allclose(twice.shuffled_cosine[6:], once.shuffled_cosine)


def test_guessing_wins_at_the_chance_rate() -> None:
    random = np.random.default_rng(3)
    images, texts = _unit(random.normal(size=(400, 16))), _unit(random.normal(size=(400, 16)))
    scores = score_pairs(images, texts, [str(i) for i in range(400)], k=8)
    assert scores.top1_of_k.mean() == pytest.approx(scores.chance, abs=0.03)


def test_one_answer_for_all_does_not_win() -> None:
    texts = np.tile(_unit(np.ones((1, 4))), (5, 1))
    assert score_pairs(texts, texts, list("abcde"), k=2).top1_of_k.max() == 0.0


def test_summary_counts_prompts_not_pictures() -> None:
    images, texts = _embeddings(20, 0.5)
    prompts = [f"prompt {i}" for i in range(20)]
    copies = score_pairs(np.tile(images, (9, 1)), np.tile(texts, (9, 1)), prompts * 9, k=4)
    single = summarise_pairs(score_pairs(images, texts, prompts, k=4))
    grouped = summarise_pairs(copies, groups=prompts * 9)
    assert grouped.cosine.count == 20
    assert grouped.cosine.high - grouped.cosine.low == pytest.approx(
        single.cosine.high - single.cosine.low, rel=0.3
    )
    assert grouped.above_floor.excludes_zero


def test_too_few_prompts() -> None:
    images, texts = _embeddings(3, 0.1)
    with pytest.raises(FoundryError, match="3 distinct prompts"):
        score_pairs(images, texts, list("abc"), k=4)
    with pytest.raises(FoundryError, match="3 pictures, 3 texts and 2 prompts"):
        score_pairs(images, texts, ["a", "b"], k=2)
