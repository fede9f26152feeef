"""Sampling from a model folder without text encoder: the same pictures as the stock diffusers pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from training.backbones import denoise, size_from_data
from training.conditioning import STRIDE_OF_STABLE_DIFFUSION, Condition
from training.diffusion.few_step_schedulers import (
    few_step_scheduler_of,
    is_few_step,
    read_scheduler_config,
)
from training.diffusion.latent_space import unscaled
from training.diffusion.noise_process import Noising
from training.diffusion.schedulers import noising_of, scheduler_of
from training.errors import FoundryError
from training.hardware import device_of
from training.model_folders.autoencoder_config import pixels_per_latent
from training.model_folders.classes import backbone_part, load_part
from training.model_folders.pretrained import load_scheduler
from training.sampling.control import Control
from training.sampling.denoising_loop import draw_noise, generators_of, sample_latents


@dataclass(frozen=True)
class Denoiser:
    """A backbone with its autoencoder and noise process, ready to sample or to be measured.

    ``few_step`` tells a consistency model, which is sampled by fresh noise between its steps and without guidance.
    ``scheduler`` is the stock one that its folder names; None for the one that fits ``noising``.
    """

    backbone: Any  # one of BACKBONE_CLASSES
    autoencoder: Any  # AutoencoderKL; None where nothing is decoded
    noising: Noising
    few_step: bool = False
    scheduler: Any | None = None

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", *, raw: bool = False) -> Denoiser:
        """Load a model folder; ``raw`` takes the weights before averaging where both are kept.

        Raises FoundryError when the folder is no model of ours.
        """
        folder = Path(folder)
        part, kind = backbone_part(folder)
        source = folder / "raw" if raw and (folder / "raw").is_dir() else folder / part
        return cls(
            load_part(kind, source).to(device),
            load_part(AutoencoderKL, folder / "vae").to(device),
            noising_of(read_scheduler_config(folder)),
            is_few_step(folder),
            load_scheduler(folder),
        )

    @classmethod
    def from_parts(
        cls,
        backbone: nn.Module,
        autoencoder_folder: Path,
        noising: Noising | str,
        *,
        few_step: bool = False,
        scheduler: Any | None = None,
    ) -> Denoiser:
        """A denoiser around a backbone in memory, for samples during training; a prediction alone will do."""
        autoencoder = load_part(AutoencoderKL, autoencoder_folder).to(device_of(backbone))
        noising = Noising(noising) if isinstance(noising, str) else noising
        return cls(backbone, autoencoder, noising, few_step, scheduler)

    def with_weights(self, model: Path, weights: Path) -> Denoiser:
        """The same with other weights of its backbone, such as those that its run kept on the way; ``model`` is its folder."""
        _, kind = backbone_part(model)
        return replace(self, backbone=load_part(kind, weights).to(device_of(self.backbone)))

    def fresh_scheduler(self) -> Any:
        """A scheduler without memory of earlier samples."""
        if self.scheduler is not None:
            return type(self.scheduler).from_config(self.scheduler.config)
        return (few_step_scheduler_of if self.few_step else scheduler_of)(self.noising)

    @torch.inference_mode()
    def predict_clean(
        self,
        noisy: Float[Tensor, "b c h w"],
        level: Float[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, "b c h w"]:
        """The clean latent the model sees in noisy ones; ``level`` is t in [0, 1), see :mod:`training.diffusion.noise_process`."""
        timestep = self.noising.timestep(level)
        told = replace(condition, pixels_per_latent=self.pixels_per_latent)
        output = denoise(self.backbone, noisy, timestep, told)
        return self.noising.clean(noisy, output, level)

    def size_from_data(self, shape: tuple[int, int, int] | None) -> tuple[int, int] | None:
        """``latent_size`` of pictures like those of the data; None where the backbone has a size of its own."""
        return size_from_data(self.backbone, shape)

    @property
    def pixels_per_latent(self) -> int:
        """Pixels of a side for one latent; as published autoencoders have it where none is there."""
        if self.autoencoder is None:
            return STRIDE_OF_STABLE_DIFFUSION
        return pixels_per_latent(self.autoencoder.config)

    @property
    def device(self) -> torch.device:
        """Where the backbone lies."""
        return device_of(self.backbone)


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> Float[Tensor, "n c h w"]:
    """One latent of noise per seed, as ``torch.Generator().manual_seed(seed)`` draws it in a stock pipeline."""
    return draw_noise(generators_of(seeds), shape)


def sample(
    model_folder: Path,
    prompts: Condition,
    seeds: Sequence[int],
    *,
    steps: int = 20,
    guidance: float = 3.0,
    threads: int | None = None,
    batch_size: int = 64,
    raw: bool = False,
    latent_size: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "n height width 3"]:
    """Sample one picture per prompt and seed from a model folder; guidance 1 uses no empty text.

    Raises FoundryError when seeds and prompts differ in number or the folder is no model.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return sample_with(
        Denoiser.load(model_folder, raw=raw), prompts, seeds, steps, guidance, batch_size, latent_size
    )


@torch.inference_mode()
def sample_with(
    denoiser: Denoiser,
    prompts: Condition,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    batch_size: int = 64,
    latent_size: tuple[int, int] | None = None,
    *,
    true_guidance: float = 1.0,
    control: Control | None = None,
) -> UInt8[np.ndarray, "n height width 3"]:
    """Like :func:`sample`, for a loaded denoiser; ``latent_size`` is height and width, None for the backbone's own.

    ``true_guidance`` and ``control``: see :func:`training.sampling.denoising_loop.sample_latents`.
    """
    if len(seeds) != len(prompts):
        raise FoundryError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed a prompt")
    pictures = []
    for start in range(0, len(seeds), batch_size):
        chosen = slice(start, start + batch_size)
        latents = sample_latents(
            denoiser,
            prompts.part(start, start + batch_size),
            seeds[chosen],
            steps,
            guidance,
            latent_size,
            true_guidance=true_guidance,
            control=None if control is None else control.part(start, start + batch_size),
        )
        pictures.append(decode(denoiser.autoencoder, latents))
    return np.concatenate(pictures)


@torch.inference_mode()
def decode(autoencoder: Any, latents: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n height width 3"]:
    """Pictures of scaled latents, rounded as diffusers rounds them."""
    unit = (images_of(autoencoder, latents) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().float().numpy()
    return (unit * 255).round().astype(np.uint8)


def images_of(autoencoder: Any, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 height width"]:
    """Pictures of scaled latents, in about [-1, 1]."""
    images: Tensor = autoencoder.decode(unscaled(autoencoder.config, latents), return_dict=False)[0]
    return images
