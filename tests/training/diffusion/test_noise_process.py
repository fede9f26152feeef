"""Schedules equal diffusers' own, and weights mean what they say whatever is predicted."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from training.diffusion.noise_process import BETAS, Noising, alphas_cumprod
from training.diffusion.schedulers import build_scheduler, noising_of
from training.errors import FoundryError
from training.recipes.files import load_recipe


@pytest.mark.parametrize("schedule", list(BETAS))
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_schedules_are_those_of_diffusers(schedule: str, zero_terminal_snr: bool) -> None:
    name, first, last = BETAS[schedule]
    theirs = DDPMScheduler(
        1000, first, last, name, rescale_betas_zero_snr=zero_terminal_snr, prediction_type="v_prediction"
    ).alphas_cumprod
    torch.testing.assert_close(
        alphas_cumprod(schedule, zero_terminal_snr).float(), theirs, atol=2e-6, rtol=2e-4
    )


@pytest.mark.parametrize("prediction", ["flow", "clean", "epsilon", "v"])
def test_weighted_error_is_that_of_the_clean_latent(prediction: str) -> None:
    noising, gamma = Noising(prediction), 5.0
    generator = torch.Generator().manual_seed(0)
    clean, noise, wrong = (
        torch.randn(6, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    t = torch.tensor([0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
    alpha, sigma = noising.coefficients(t)
    noisy = alpha * clean + sigma * noise
    output = noising.target(clean, noise, t) + 0.1 * wrong
    weighted = noising.min_snr_weights(t, gamma) * (0.1 * wrong).square().mean((1, 2, 3))
    squared = (noising.clean(noisy, output, t) - clean).square().mean((1, 2, 3))
    snr = (alpha / sigma).flatten() ** 2
    torch.testing.assert_close(weighted, snr.clamp(max=gamma) * squared, rtol=1e-4, atol=1e-9)


def test_the_velocity_weights_of_a_clean_prediction_are_the_error_of_a_flow() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise, wrong = (
        torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    t = torch.tensor([0.02, 0.1, 0.5, 1.0], dtype=torch.float64)
    level = t[:, None, None, None]
    noisy = (1 - level) * clean + level * noise
    velocity = (noisy - (clean + wrong)) / level
    flow = (velocity - (noise - clean)).square().mean((1, 2, 3))
    weighted = Noising("clean").velocity_weights(t, 0.1) * wrong.square().mean((1, 2, 3))
    torch.testing.assert_close(weighted[1:], flow[1:])
    assert float(weighted[0]) == pytest.approx(100 * float(wrong[0].square().mean())), "held at the floor"


@pytest.mark.parametrize(
    "noising", [Noising("flow"), Noising("clean"), Noising("v", "cosine", True), Noising("epsilon", "linear")]
)
def test_a_scheduler_remembers_its_process(noising: Noising) -> None:
    scheduler = build_scheduler(
        noising.prediction, noising.schedule, zero_terminal_snr=noising.zero_terminal_snr
    )
    assert noising_of(dict(scheduler.config)) == noising
    with pytest.raises(FoundryError, match="prediction_type 'nonsense'"):
        noising_of({"prediction_type": "nonsense"})


def test_impossible_schedules_are_refused() -> None:
    recipe = {"name": "a", "backbone": "PixArt-tiny", "images_total": 8, "learning_rate": 0.1}
    with pytest.raises(FoundryError, match="has no betas"):
        load_recipe({**recipe, "diffusion": {"prediction": "flow", "noise_schedule": "cosine"}})
    with pytest.raises(
        FoundryError, match="'velocity_floor' weighs the errors of prediction 'clean', found 'flow'"
    ):
        load_recipe({**recipe, "diffusion": {"prediction": "flow", "velocity_floor": 0.1}})
    with pytest.raises(FoundryError, match="give one of them"):
        load_recipe(
            {**recipe, "diffusion": {"prediction": "clean", "velocity_floor": 0.1, "min_snr_gamma": 5.0}}
        )
    with pytest.raises(FoundryError, match="predict v"):
        load_recipe({**recipe, "diffusion": {"prediction": "epsilon", "zero_terminal_snr": True}})
    with pytest.raises(FoundryError, match="needs widths"):
        load_recipe({**recipe, "power_ema_every_images": 8})
