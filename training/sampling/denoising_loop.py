"""The steps of a sampler, as each stock pipeline takes them: noise in, latents out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from jaxtyping import Float
from torch import Tensor

from training.backbones import bare, denoise, latent_shape
from training.conditioning import Condition


@runtime_checkable
class Sampled(Protocol):
    """What a sampler needs of a model."""

    @property
    def backbone(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    def fresh_scheduler(self) -> Any: ...


def generators_of(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator on the CPU per seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Float[Tensor, "n c h w"]:
    """One latent of noise per generator."""
    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators])


@dataclass(frozen=True)
class Guided:
    """A backbone's answer to latents as the stock pipeline asks for it, with classifier-free guidance.

    ``doubled``: the null stands before what is given in ``condition``, and latents are denoised with both. ``dtype``:
    what the backbone computes in where that is not the latents' own.
    """

    backbone: Any
    condition: Condition
    guidance: float
    doubled: bool
    dtype: torch.dtype | None = None

    def __call__(self, latents: Float[Tensor, "b c h w"], timestep: Tensor) -> Float[Tensor, "b c h w"]:
        """What the network predicts for latents that the scheduler has scaled; ``timestep`` is the scheduler's."""
        noisy = torch.cat([latents, latents]) if self.doubled else latents
        times = timestep.to(latents.device).expand(len(noisy))
        noisy = noisy if self.dtype is None else noisy.to(self.dtype)
        output = denoise(self.backbone, noisy, times, self.condition)
        output = output if self.dtype is None else output.to(latents.dtype)
        if not self.doubled:
            return output
        without, given = output.chunk(2)  # Ho and Salimans 2022, eq. 6, in the pipelines' form
        return without + self.guidance * (given - without)

    def to(self, dtype: torch.dtype) -> Guided:
        """The same for a backbone that computes in ``dtype``."""
        return replace(self, condition=self.condition.to(dtype=dtype), dtype=dtype)


@dataclass(frozen=True)
class Start:
    """Where sampling begins: noise at the scheduler's first level, and what its steps need.

    A scheduler that adds noise between steps goes on drawing from the generators of the first noise, as pipelines do.
    """

    latents: Float[Tensor, "n c h w"]
    predict: Guided
    scheduler: Any  # of diffusers, its timesteps set
    generators: list[torch.Generator]


def sample_latents(
    denoiser: Sampled,
    condition: Condition,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
) -> Float[Tensor, "n c h w"]:
    """Latents of a condition's rows. FLUX is told the guidance; for the others its null is denoised beside and extrapolated from."""
    start = start_sampling(denoiser, condition, seeds, steps, guidance, latent_size)
    latents, scheduler = start.latents, start.scheduler
    extra = extra_keywords(scheduler, start.generators)
    for timestep in scheduler.timesteps:
        output = start.predict(scaled_input(scheduler, latents, timestep), timestep)
        latents = scheduler.step(output, timestep, latents, return_dict=False, **extra)[0]
    return latents


def start_sampling(
    denoiser: Sampled,
    condition: Condition,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
) -> Start:
    """What :func:`sample_latents` prepares before its first step; arguments are the same."""
    device, backbone = denoiser.device, denoiser.backbone
    channels, *own_size = latent_shape(backbone)
    told = isinstance(bare(backbone), FluxTransformer2DModel)
    guided = guidance > 1 and not told
    told_of = replace(condition.doubled() if guided else condition, guidance=guidance).to(device)
    scheduler = denoiser.fresh_scheduler()
    generators = generators_of(seeds)
    latents = draw_noise(generators, (channels, *(latent_size or own_size))).to(device)
    _set_timesteps(scheduler, steps, backbone, latents)
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    predict = Guided(backbone, told_of, guidance, guided)
    return Start(latents, predict, scheduler, generators)


def scaled_input(scheduler: Any, latents: Float[Tensor, "n c h w"], timestep: Tensor) -> Tensor:
    """Latents as the network takes them; flow schedulers leave them as they are."""
    if not hasattr(scheduler, "scale_model_input"):
        return latents
    scaled: Tensor = scheduler.scale_model_input(latents, timestep)
    return scaled


def extra_keywords(scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """What the scheduler's ``step`` is passed beside output, timestep and latents."""
    takes = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": list(generators)} if takes else {}


def _set_timesteps(scheduler: Any, steps: int, backbone: Any, latents: Tensor) -> None:
    """Timesteps as the stock pipeline asks for them; flow schedulers may shift by the number of patches."""
    inner = bare(backbone)
    about = scheduler.config
    if not isinstance(inner, (FluxTransformer2DModel, SD3Transformer2DModel)):
        scheduler.set_timesteps(steps)
        return
    given: dict[str, Any] = {}
    if about.get("use_dynamic_shifting"):
        given["mu"] = _shift_of(about, latents.shape[-2] * latents.shape[-1] // 4)
    if isinstance(inner, FluxTransformer2DModel) and _takes_sigmas(scheduler):
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), **given)
    else:
        scheduler.set_timesteps(steps, **given)


def _takes_sigmas(scheduler: Any) -> bool:
    """FLUX's pipeline gives its own noise levels, unless the scheduler has flow sigmas itself."""
    if scheduler.config.get("use_flow_sigmas"):
        return False
    return "sigmas" in inspect.signature(scheduler.set_timesteps).parameters


def _shift_of(about: Any, patches: int) -> float:
    """Shift of the noise levels, linear in the number of patches (the configuration's two points)."""
    low, high = about.get("base_image_seq_len", 256), about.get("max_image_seq_len", 4096)
    start, end = about.get("base_shift", 0.5), about.get("max_shift", 1.15)
    return float(start + (end - start) * (patches - low) / (high - low))
