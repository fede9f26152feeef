"""Sampling from a model folder without text encoder: the same pictures as the stock diffusers pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
)
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, nn

from training.backbones import denoise
from training.errors import FoundryError
from training.noising import BETAS, NUM_TIMESTEPS, PREDICTION_TYPES, Noising
from training.prompts import Prompts
from training.run_folder import write_error
from training.schedulers import few_step_scheduler_of, is_few_step, read_scheduler_config

AUTOENCODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


@dataclass(frozen=True)
class Denoiser:
    """A backbone with its autoencoder and noise process, ready to sample or to be measured.

    ``few_step`` tells a consistency model, which is sampled by fresh noise between its steps and without guidance.
    """

    backbone: Any  # PixArtTransformer2DModel or UNet2DConditionModel
    autoencoder: Any  # AutoencoderKL
    noising: Noising
    few_step: bool = False

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", *, raw: bool = False) -> Denoiser:
        """Load a model folder; ``raw`` takes the weights before averaging where both are kept.

        Raises FoundryError when the folder is no model of ours.
        """
        folder = Path(folder)
        part, kind = backbone_part(folder)
        source = folder / "raw" if raw and (folder / "raw").is_dir() else folder / part
        return cls(
            kind.from_pretrained(source, low_cpu_mem_usage=False).eval().to(device),
            AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False).eval().to(device),
            noising_of(read_scheduler_config(folder)),
            is_few_step(folder),
        )

    @classmethod
    def from_parts(
        cls, backbone: nn.Module, autoencoder_folder: Path, noising: Noising | str, *, few_step: bool = False
    ) -> Denoiser:
        """A denoiser around a backbone in memory, for samples during training; a prediction alone will do."""
        device = next(backbone.parameters()).device
        autoencoder = (
            AutoencoderKL.from_pretrained(autoencoder_folder, low_cpu_mem_usage=False).eval().to(device)
        )
        noising = Noising(noising) if isinstance(noising, str) else noising
        return cls(backbone, autoencoder, noising, few_step)

    @torch.inference_mode()
    def predict_clean(
        self,
        noisy: Float[Tensor, "b c h w"],
        level: Float[Tensor, " b"],
        states: Float[Tensor, "b tokens dim"],
        mask: Bool[Tensor, "b tokens"],
    ) -> Float[Tensor, "b c h w"]:
        """The clean latent the model sees in noisy ones; ``level`` is t in [0, 1), see :mod:`training.noising`."""
        output = denoise(self.backbone, noisy, self.noising.timestep(level), states, mask)
        return self.noising.clean(noisy, output, level)

    @property
    def device(self) -> torch.device:
        """Where the backbone lies."""
        return next(self.backbone.parameters()).device


def backbone_part(folder: Path) -> tuple[str, Any]:
    """Sub-folder and class of the backbone in a pipeline folder. Raises FoundryError when there is none."""
    for part, kind in (("transformer", PixArtTransformer2DModel), ("unet", UNet2DConditionModel)):
        if (folder / part).is_dir():
            return part, kind
    raise FoundryError(
        f"{folder}: holds neither transformer/ nor unet/; name the model/ folder of a finished run"
    )


def build_scheduler(
    prediction: str, schedule: str = "scaled_linear", *, zero_terminal_snr: bool = False
) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (order 2) for a prediction: flow sigmas on the flow path, the betas of the schedule else."""
    beta_schedule, first, last = BETAS[schedule]
    return DPMSolverMultistepScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_start=first,
        beta_end=last,
        beta_schedule=beta_schedule,
        prediction_type=PREDICTION_TYPES[prediction],
        use_flow_sigmas=Noising(prediction).is_flow_path,
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def scheduler_of(noising: Noising) -> DPMSolverMultistepScheduler:
    """:func:`build_scheduler` of a noise process."""
    return build_scheduler(noising.prediction, noising.schedule, zero_terminal_snr=noising.zero_terminal_snr)


def noising_of(config: Mapping[str, Any]) -> Noising:
    """The noise process that a scheduler's configuration describes. Raises FoundryError for one we do not know."""
    predictions = {value: key for key, value in PREDICTION_TYPES.items()}
    schedules = {beta_schedule: name for name, (beta_schedule, _, _) in BETAS.items()}
    prediction, schedule = (
        config.get("prediction_type", "epsilon"),
        config.get("beta_schedule", "scaled_linear"),
    )
    if prediction not in predictions or schedule not in schedules:
        raise FoundryError(
            f"scheduler_config.json: prediction_type '{prediction}' with beta_schedule '{schedule}'; known are "
            f"{', '.join(predictions)} with {', '.join(schedules)}"
        )
    return Noising(predictions[prediction], schedules[schedule], bool(config.get("rescale_betas_zero_snr")))


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> Float[Tensor, "n c h w"]:
    """One latent of noise per seed, as ``torch.Generator().manual_seed(seed)`` draws it in a stock pipeline."""
    return _draw_noise(_generators(seeds), shape)


def _generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _draw_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Float[Tensor, "n c h w"]:
    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators])


def sample(
    model_folder: Path,
    prompts: Prompts,
    seeds: Sequence[int],
    *,
    steps: int = 20,
    guidance: float = 3.0,
    threads: int | None = None,
    batch_size: int = 64,
    raw: bool = False,
) -> UInt8[np.ndarray, "n height width 3"]:
    """Sample one picture per prompt and seed from a model folder; guidance 1 uses no empty text.

    Raises FoundryError when seeds and prompts differ in number or the folder is no model.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return sample_with(Denoiser.load(model_folder, raw=raw), prompts, seeds, steps, guidance, batch_size)


@torch.inference_mode()
def sample_with(
    denoiser: Denoiser,
    prompts: Prompts,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    batch_size: int = 64,
) -> UInt8[np.ndarray, "n height width 3"]:
    """Like :func:`sample`, for a loaded denoiser."""
    if len(seeds) != len(prompts.states):
        raise FoundryError(f"{len(prompts.states)} prompts but {len(seeds)} seeds; give one seed a prompt")
    pictures = []
    for start in range(0, len(seeds), batch_size):
        chosen = slice(start, start + batch_size)
        latents = _sample_latents(
            denoiser, prompts.part(start, start + batch_size), seeds[chosen], steps, guidance
        )
        pictures.append(decode(denoiser.autoencoder, latents))
    return np.concatenate(pictures)


def _sample_latents(
    denoiser: Denoiser, prompts: Prompts, seeds: Sequence[int], steps: int, guidance: float
) -> Tensor:
    config, device = denoiser.backbone.config, denoiser.device
    states, mask = _conditions(prompts, guided=guidance > 1)
    states, mask = states.to(device), mask.to(device)
    build = few_step_scheduler_of if denoiser.few_step else scheduler_of
    scheduler = build(denoiser.noising)
    scheduler.set_timesteps(steps)
    # A scheduler that adds noise between steps goes on drawing from the generators of the first noise, as pipelines do.
    generators = _generators(seeds)
    latents = _draw_noise(generators, (config.in_channels, config.sample_size, config.sample_size)).to(device)
    latents = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        doubled = torch.cat([latents, latents]) if guidance > 1 else latents
        output = denoise(denoiser.backbone, doubled, timestep.to(device).expand(len(doubled)), states, mask)
        if guidance > 1:  # Ho and Salimans 2022, eq. 6, in the pipelines' form
            unguided, guided = output.chunk(2)
            output = unguided + guidance * (guided - unguided)
        latents = scheduler.step(output, timestep, latents, generator=generators, return_dict=False)[0]
    return latents


def _conditions(prompts: Prompts, *, guided: bool) -> tuple[Tensor, Tensor]:
    """States and mask; the empty text comes first when guided, as in the stock pipelines."""
    states, mask = torch.from_numpy(prompts.states), torch.from_numpy(prompts.mask)
    if not guided:
        return states, mask
    null_states = torch.from_numpy(prompts.null_states).expand_as(states)
    null_mask = torch.from_numpy(prompts.null_mask).expand_as(mask)
    return torch.cat([null_states, states]), torch.cat([null_mask, mask])


@torch.inference_mode()
def decode(autoencoder: Any, latents: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n height width 3"]:
    """Pictures of scaled latents, rounded as diffusers rounds them."""
    images = autoencoder.decode(latents / autoencoder.config.scaling_factor, return_dict=False)[0]
    unit = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().float().numpy()
    return (unit * 255).round().astype(np.uint8)


def write_sheet(path: Path, images: UInt8[np.ndarray, "n height width 3"], columns: int = 8) -> None:
    """Write pictures as one PNG sheet. Raises FoundryError when it cannot be written."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    sheet = np.full((-(-count // columns) * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = image
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        Image.fromarray(sheet).save(temporary, "PNG")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error
