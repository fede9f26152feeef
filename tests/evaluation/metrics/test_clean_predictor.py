"""The adapter gives the same error for the same knowledge, whatever target a model predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluation.metrics.clean_predictor import CleanPredictor, level_of_sigma, load_predictor
from evaluation.metrics.denoising import denoising_errors, noise_levels
from training.backbones import build_backbone
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.model_folders.autoencoders import build_autoencoder
from training.model_folders.denoiser import Denoiser
from training.model_folders.export import export_pipeline
from training.recipes.autoencoder import AutoencoderOptions

PREDICTIONS = ("flow", "clean", "epsilon", "v")


class _IdealDenoiser(Denoiser):
    """Knows that clean latents are unit Gaussian and answers in the terms of its target."""

    def predict_clean(
        self,
        noisy: torch.Tensor,
        level: torch.Tensor,
        condition: Condition,
    ) -> torch.Tensor:
        alpha, sigma = self.noising.coefficients(level)
        clean = alpha * noisy / (alpha**2 + sigma**2)
        noise = sigma * noisy / (alpha**2 + sigma**2)
        return self.noising.clean(noisy, self.noising.target(clean, noise, level), level)


def _errors(prediction: str) -> np.ndarray:
    text = Condition(torch.zeros(64, 2, 4), torch.ones(64, 2, dtype=torch.bool))
    latents = torch.randn(64, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    predictor = CleanPredictor(_IdealDenoiser(nn.Linear(1, 1), None, Noising(prediction)))
    return denoising_errors(predictor, [str(i) for i in range(64)], latents, text)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_levels_have_the_ratio_that_was_asked_for(prediction: str) -> None:
    noising = Noising(prediction)
    sigma = torch.from_numpy(noise_levels()).float()
    alpha, noise = noising.coefficients(level_of_sigma(noising, sigma))
    np.testing.assert_allclose((noise / alpha).flatten(), sigma, rtol=0.02)


def test_same_knowledge_same_error() -> None:
    flow = _errors("flow")
    sigmas = noise_levels()
    np.testing.assert_allclose(flow.mean(axis=0), sigmas**2 / (1 + sigmas**2), rtol=0.06)
    for prediction in ("clean", "epsilon", "v"):
        np.testing.assert_allclose(_errors(prediction).mean(axis=0), flow.mean(axis=0), rtol=0.01)


@pytest.mark.parametrize(("backbone", "prediction"), [("PixArt-tiny", "flow"), ("UNet-tiny", "v")])
def test_saved_models_are_measured(tmp_path: Path, backbone: str, prediction: str) -> None:
    options = AutoencoderOptions(block_channels=(8, 8, 8, 8))
    build_autoencoder(options, 64, 0).save_pretrained(tmp_path / "vae")
    model = build_backbone(backbone, seed=0)
    export_pipeline(tmp_path / "model", model, tmp_path / "vae", Noising(prediction))
    text = Condition(torch.randn(3, 5, 384), torch.ones(3, 5, dtype=torch.bool))
    latents = torch.randn(3, 16, 8, 8)
    saved = denoising_errors(load_predictor(tmp_path / "model"), list("abc"), latents, text)
    in_memory = CleanPredictor(Denoiser(model.eval(), None, Noising(prediction)))
    np.testing.assert_allclose(saved, denoising_errors(in_memory, list("abc"), latents, text), rtol=1e-4)


def test_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="neither transformer/ nor unet/"):
        load_predictor(tmp_path)
