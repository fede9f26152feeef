"""What we export loads with stock diffusers, and samples the same pictures as our sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

from tests.training.conftest import RunMaker, write_shards
from tests.training.model_folders.stock import run_card, told
from training.diffusion.noise_process import Noising, alphas_cumprod
from training.diffusion.schedulers import build_scheduler
from training.digests import folder_digest
from training.errors import FoundryError
from training.model_folders.autoencoders import build_autoencoder
from training.model_folders.card import model_card_text, usage_code
from training.model_folders.denoiser import Denoiser, initial_noise, sample, sample_with
from training.model_folders.probe import reload_equals_saved
from training.objectives.diffusion import DiffusionObjective
from training.recipes.autoencoder import AutoencoderOptions
from training.run import run
from training.text_encoders import MiniLMEncoder

PROMPTS = ["a red apple"]


def trained(runs: RunMaker, **recipe: Any) -> Path:
    folder = runs.prepare(images_total=8, **recipe)
    run(folder.path)
    return folder.model


@pytest.mark.parametrize(
    "recipe",
    [
        {"backbone": "PixArt-tiny"},
        {"backbone": "UNet-tiny"},
        {"backbone": "UNet-tiny", "diffusion": {"prediction": "epsilon", "time_sampling": "uniform"}},
        {"backbone": "PixArt-tiny", "diffusion": {"prediction": "v"}},
        {"backbone": "PixArt-tiny", "diffusion": {"prediction": "clean", "time_sampling": "uniform"}},
        {"backbone": "UNet-tiny", "diffusion": {"prediction": "clean"}},
        {"backbone": "SDXL-stock-tiny"},
        {"backbone": "SDXL-stock-tiny", "diffusion": {"prediction": "epsilon", "time_sampling": "uniform"}},
        {"backbone": "SD3-tiny"},
        {"backbone": "SD3-tiny", "diffusion": {"prediction": "clean"}},
        {"backbone": "FLUX-tiny"},
        {"backbone": "FLUX-tiny", "diffusion": {"prediction": "clean"}},
    ],
    ids=lambda recipe: f"{recipe['backbone']}-{recipe.get('diffusion', {}).get('prediction', 'flow')}",
)
@pytest.mark.filterwarnings("ignore")
def test_the_cards_call_gives_our_sampler_s_pictures(runs: RunMaker, recipe: dict[str, Any]) -> None:
    folder = trained(runs, **recipe)
    names = run_card(usage_code(folder, PROMPTS[0]), folder)
    stock = np.stack([np.asarray(image) for image in names["images"]])
    ours = sample_with(Denoiser.load(folder), told(names), [0], 20, 3.0, latent_size=(8, 8))
    assert ours.shape == (1, 64, 64, 3)
    difference = np.abs(stock.astype(int) - ours.astype(int))
    assert difference.max() <= 2
    assert difference.mean() < 0.1
    assert stock.std() > 1  # not one flat colour, which anything would match


@pytest.mark.filterwarnings("ignore")
def test_sizes_that_a_model_is_told_are_those_of_its_autoencoder(tmp_path: Path) -> None:
    autoencoder = tmp_path / "autoencoder"
    options = AutoencoderOptions(block_channels=(8, 8, 8))
    build_autoencoder(options, 32, seed=0).save_pretrained(autoencoder)
    runs = RunMaker(tmp_path, write_shards(tmp_path / "shards", autoencoder), autoencoder)
    folder = trained(runs, backbone="SDXL-stock-tiny")
    names = run_card(usage_code(folder, PROMPTS[0]), folder)
    denoiser = Denoiser.load(folder)
    told_sizes: list[float] = []
    denoiser.backbone.add_time_proj.register_forward_pre_hook(
        lambda module, arguments: told_sizes.extend(arguments[0].tolist())
    )
    ours = sample_with(denoiser, told(names), [0], 2, 3.0, latent_size=(8, 8))
    assert ours.shape == (1, *np.asarray(names["images"][0]).shape) == (1, 32, 32, 3)
    assert set(told_sizes) == {32.0, 0.0}, "height and width in pixels; crops begin at 0"
    training = DiffusionObjective(runs.spec(backbone="SDXL-stock-tiny"), runs.execution(), "cpu")
    assert training.pixels_per_latent == denoiser.pixels_per_latent == 4


def test_card_prints_the_call_and_the_lineage(runs: RunMaker) -> None:
    folder = trained(runs)
    card = model_card_text(runs.spec(images_total=8), folder, {"loss": 1.5})
    assert usage_code(folder) in card
    assert "| loss | 1.5 |" in card
    assert runs.spec(images_total=8).spec_hash in card


def test_reloading_answers_as_saved_and_notices_change(runs: RunMaker) -> None:
    folder = trained(runs, ema_half_life_images=10, learning_rate=0.01)
    assert reload_equals_saved(folder) == pytest.approx(0, abs=1e-6)
    assert (folder / "raw").is_dir()
    raw, mean = Denoiser.load(folder, raw=True), Denoiser.load(folder)
    pairs = zip(raw.backbone.parameters(), mean.backbone.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    raw.backbone.save_pretrained(folder / "transformer")
    with pytest.raises(FoundryError, match="answers differently"):
        reload_equals_saved(folder)
    (folder / "probe.safetensors").unlink()
    with pytest.raises(FoundryError, match=r"probe\.safetensors: missing"):
        reload_equals_saved(folder)


def test_seeds_and_batches_do_not_mix(runs: RunMaker) -> None:
    folder = trained(runs)
    prompts = MiniLMEncoder().prompts(["one", "two", "one"])
    together = sample(folder, prompts, [5, 6, 5], steps=3, guidance=1.0)
    apart = sample(folder, prompts, [5, 6, 5], steps=3, guidance=1.0, batch_size=2)
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1
    assert np.array_equal(together[0], together[2])
    assert not np.array_equal(together[0], together[1])
    with pytest.raises(FoundryError, match="3 prompts but 2 seeds"):
        sample(folder, prompts, [1, 2])
    with pytest.raises(FoundryError, match="neither transformer/ nor unet/"):
        sample(folder / "vae", prompts, [1, 2, 3])


def test_initial_noise_is_the_pipelines() -> None:
    alone = torch.randn((1, 2, 3, 3), generator=torch.Generator().manual_seed(7))
    assert torch.equal(initial_noise([3, 7], (2, 3, 3))[1:], alone)


@pytest.mark.parametrize("prediction", ["flow", "clean", "epsilon", "v"])
def test_the_right_answer_gives_the_clean_latent_back(prediction: str) -> None:
    torch.manual_seed(0)
    clean, noise, level = torch.randn(6, 2, 3, 3), torch.randn(6, 2, 3, 3), torch.rand(6) * 0.9
    noising = Noising(prediction)
    noisy = noising.add_noise(clean, noise, level)
    restored = noising.clean(noisy, noising.target(clean, noise, level), level)
    torch.testing.assert_close(restored, clean, atol=1e-4, rtol=1e-4)


def test_noising_agrees_with_diffusers() -> None:
    ddpm = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    torch.testing.assert_close(alphas_cumprod().float(), ddpm.alphas_cumprod, atol=1e-6, rtol=1e-4)
    torch.manual_seed(0)
    clean, noise, steps = torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3), torch.tensor([0, 500, 999])
    for prediction in ("epsilon", "v"):
        ours = Noising(prediction)
        noisy = ours.add_noise(clean, noise, (steps + 0.5) / 1000)
        torch.testing.assert_close(noisy, ddpm.add_noise(clean, noise, steps), atol=1e-5, rtol=1e-4)
    velocity = Noising("v").target(clean, noise, (steps + 0.5) / 1000)
    torch.testing.assert_close(velocity, ddpm.get_velocity(clean, noise, steps), atol=1e-5, rtol=1e-4)
    flow: DPMSolverMultistepScheduler = build_scheduler("flow")
    flow.set_timesteps(10)
    assert flow.init_noise_sigma == 1
    assert flow.timesteps[0] == pytest.approx(1000 * float(flow.sigmas[0]), abs=1)


def test_a_perfect_denoiser_samples_its_picture(runs: RunMaker) -> None:
    """With the true velocity towards one latent, the scheduler must land on it."""
    target, latents = torch.full((1, 2, 3, 3), 0.7), torch.randn(1, 2, 3, 3)
    scheduler = build_scheduler("flow")
    scheduler.set_timesteps(20)
    for index, timestep in enumerate(scheduler.timesteps):
        velocity = (latents - target) / scheduler.sigmas[index]
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, target, atol=1e-3, rtol=0)


def test_card_and_lineage_stay_outside_the_digest(runs: RunMaker) -> None:
    folder = trained(runs)
    before = folder_digest(folder, ("model_card.md", "lineage.json"))
    (folder / "model_card.md").write_text("card")
    (folder / "lineage.json").write_text("{}")
    assert folder_digest(folder, ("model_card.md", "lineage.json")) == before
