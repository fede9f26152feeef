"""Averages have the profile they claim, and any width follows from two that were kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from tests.training.conftest import RunMaker
from training.averages.ema import Decay, WeightAverage, half_life_decay, power_decay
from training.averages.power_ema import (
    Profile,
    combination,
    gamma_of,
    profile_products,
    reconstruct,
    sigma_rel_of,
    stored_profiles,
)
from training.errors import FoundryError
from training.run import run


def profile_by_steps(decay: Decay, steps: int, batch: int) -> np.ndarray:
    """How much each step's weights count in the end, by averaging one unit impulse a step."""
    module = nn.Linear(steps, 1, bias=False)
    average = WeightAverage(module, decay)
    for step in range(steps):
        with torch.no_grad():
            module.weight.zero_()[0, step] = 1
        average.update((step + 1) * batch, batch)
    return average.average[0][0].numpy().astype(np.float64)


def test_half_life() -> None:
    profile = profile_by_steps(half_life_decay(40), 4000, 4)
    assert profile[-10:].sum() == pytest.approx(0.5, abs=1e-3)  # 10 steps of 4 images are one half life
    assert profile[-20:-10].sum() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2])
def test_power_function_has_its_width(sigma_rel: float) -> None:
    steps = 2000
    profile = profile_by_steps(power_decay(sigma_rel), steps, 8)
    time = (np.arange(steps) + 0.5) / steps
    assert profile.sum() == pytest.approx(1, abs=1e-4)
    mean = (profile * time).sum()
    width = np.sqrt((profile * (time - mean) ** 2).sum())
    assert width == pytest.approx(sigma_rel, rel=0.01)


@given(st.floats(0.01, 0.28))
def test_width_and_exponent_are_inverse(sigma_rel: float) -> None:
    assert sigma_rel_of(gamma_of(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-9)


def test_published_exponents() -> None:
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.01)  # Karras et al. 2024, section 3.1
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.01)


def test_products_are_the_integrals() -> None:
    left, right = Profile(3.0, 50.0), Profile(6.5, 80.0)
    time = (np.arange(400_000) + 0.5) / 400_000 * 80

    def value(profile: Profile) -> np.ndarray:
        return np.where(
            time <= profile.images,
            (profile.gamma + 1) * time**profile.gamma / profile.images ** (profile.gamma + 1),
            0,
        )

    for a, b in ((left, right), (right, left), (left, left)):
        integral = (value(a) * value(b)).sum() * 80 / 400_000
        assert profile_products([a], [b])[0, 0] == pytest.approx(integral, rel=1e-3)


def test_a_stored_profile_is_reproduced_alone() -> None:
    stored = [Profile(gamma_of(0.05), t) for t in (8.0, 16.0)] + [
        Profile(gamma_of(0.1), t) for t in (8.0, 16.0)
    ]
    np.testing.assert_allclose(combination(stored, stored[2]), [0, 0, 1, 0], atol=1e-8)


def test_another_width_follows_from_two(runs: RunMaker) -> None:
    settings: dict[str, Any] = {"images_total": 160, "batch_size": 4, "learning_rate": 3e-3}
    kept: dict[str, Any] = {"power_ema_sigma_rels": [0.05, 0.1], "power_ema_every_images": 20}
    folder = runs.prepare("kept", **settings, **kept)
    run(folder.path)
    assert len(stored_profiles(folder)) == 16
    direct = runs.prepare("direct", **settings, power_ema_sigma_rels=[0.07])
    run(direct.path)
    expected = load_file(direct.model / "transformer/diffusion_pytorch_model.safetensors")
    raw = load_file(direct.model / "raw/diffusion_pytorch_model.safetensors")
    found, error = reconstruct(folder, 0.07)
    assert error < 0.02
    name = max(expected, key=lambda key: float((expected[key] - raw[key]).norm()))
    moved = float((expected[name] - raw[name]).norm())
    assert float((found[name] - expected[name]).norm()) < 0.1 * moved
    with pytest.raises(FoundryError, match="sigma_rel is 0.4"):
        reconstruct(folder, 0.4)
    with pytest.raises(FoundryError, match="holds no averages"):
        reconstruct(direct, 0.1)


def test_averages_resume_bit_equal(runs: RunMaker) -> None:
    from training.errors import TrainingStopped

    settings: dict[str, Any] = {
        "ema_half_life_images": 30,
        "power_ema_sigma_rels": [0.1],
        "power_ema_every_images": 20,
        "precision": "fp16",
    }
    whole, halved = runs.prepare("whole", **settings), runs.prepare("halved", **settings)
    run(whole.path)
    asked = iter([False] * 6 + [True])
    with pytest.raises(TrainingStopped):
        run(halved.path, lambda: next(asked))
    run(halved.path)
    done = whole.read_done(), halved.read_done()
    assert done[0] is not None
    assert done[1] is not None
    assert done[0].model_digest == done[1].model_digest
    for path in stored_profiles(whole):
        other = load_file(halved.power_averages / path.name)
        assert all(torch.equal(value, other[name]) for name, value in load_file(path).items())


def test_snapshots_are_what_the_model_was_then(runs: RunMaker, tmp_path: Path) -> None:
    folder = runs.prepare(execution={"snapshot_images": [8, 10, 40]})
    run(folder.path)
    assert sorted(path.name for path in folder.snapshots.iterdir()) == [f"{n:015d}" for n in (8, 12, 40)]
    weights = "diffusion_pytorch_model.safetensors"
    last = load_file(folder.snapshots / f"{40:015d}" / weights)
    model = load_file(folder.model / "transformer" / weights)
    assert all(torch.equal(last[name], value) for name, value in model.items())
    first = load_file(folder.snapshots / f"{8:015d}" / weights)
    assert any(not torch.equal(first[name], value) for name, value in model.items())


def test_memory_format_and_recomputation_change_rounding_only(runs: RunMaker) -> None:
    losses = []
    executions: dict[str, dict[str, Any]] = {
        "plain": {},
        "placed": {"channels_last": True, "activation_checkpointing": True},
    }
    for name, execution in executions.items():
        folder = runs.prepare(name, execution, backbone="UNet-tiny")
        run(folder.path)
        losses.append(folder.read_metrics()["loss"].to_numpy())
    # Weights before a normalisation have no gradient but rounding, which Adam blows up: losses tell.
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
