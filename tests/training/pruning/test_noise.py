"""Mask noise is a function of its counters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.pruning.noise import MaskNoise


def drawn(noise: MaskNoise, draw: int = 0, step: int = 0, layer: str = "a", calls: int = 1) -> Tensor:
    noise.begin(draw, step)
    for _ in range(calls - 1):
        noise.uniform(layer, 5)
    return noise.uniform(layer, 5)


def test_a_step_taken_again_meets_the_same_noise() -> None:
    noise = MaskNoise(7)
    first = [drawn(noise, 2, step, layer) for step in range(3) for layer in ("a", "b")]
    noise.uniform("a", 100)
    again = [drawn(MaskNoise(7), 2, step, layer) for step in reversed(range(3)) for layer in ("b", "a")]
    assert all(torch.equal(one, other) for one, other in zip(first, reversed(again), strict=True))


def test_every_counter_counts() -> None:
    noise = MaskNoise(7)
    variants = [
        drawn(noise),
        drawn(noise, draw=1),
        drawn(noise, step=1),
        drawn(noise, layer="b"),
        drawn(noise, calls=2),
        drawn(MaskNoise(8)),
    ]
    assert len({tuple(u.tolist()) for u in variants}) == len(variants)


def test_calls_may_share_their_noise() -> None:
    noise = MaskNoise(7, shared_by_calls=True)
    assert torch.equal(drawn(noise), drawn(noise, calls=3))


def test_numbers_are_uniform() -> None:
    noise = MaskNoise(0)
    noise.begin(0, 0)
    u = noise.uniform("a", 50_000)
    assert 0 <= u.min() <= u.max() < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.003)
