"""The steps of a sampler, as each stock pipeline takes them: noise in, latents out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.backbones import Family, denoise, family_of, latent_channels, own_size
from training.conditioning import Condition
from training.errors import FoundryError
from training.sampling.control import Control


@runtime_checkable
class Sampled(Protocol):
    """What a sampler needs of a model."""

    @property
    def backbone(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def pixels_per_latent(self) -> int: ...

    def fresh_scheduler(self) -> Any: ...


Seed = int | torch.Generator
"""What a picture's noise is drawn from: a number, or a generator as it stands."""


def generators_of(seeds: Sequence[Seed]) -> list[torch.Generator]:
    """One generator per seed, on the CPU where it is a number."""
    return [
        seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed) for seed in seeds
    ]


def draw_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Float[Tensor, "n c h w"]:
    """One latent of noise per generator."""
    return torch.cat([torch.randn((1, *shape), generator=own, device=own.device) for own in generators])


@dataclass(frozen=True)
class Guided:
    """A backbone's answer to latents as the stock pipeline asks for it, with classifier-free guidance.

    ``scale``: of the extrapolation from the null, 1 for none. ``dtype``: what the backbone computes in where that is not
    the latents' own. ``control`` acts on the steps that it chooses.
    """

    backbone: Any
    condition: Condition
    scale: float
    dtype: torch.dtype | None = None
    control: Control | None = None

    def __call__(
        self, latents: Float[Tensor, "b c h w"], timestep: Tensor, step: int, num_steps: int
    ) -> Float[Tensor, "b c h w"]:
        """What the network predicts at a step for latents that the scheduler has scaled; ``timestep`` is the scheduler's."""
        if self.control is None:
            return self._predict(latents, timestep, self._told)
        given = self.control.condition(self.condition, step, num_steps)
        told = self._told if given is self.condition else self._prepared(given.to(latents.device))
        with self.control.around(self.backbone, step, num_steps):
            return self._predict(latents, timestep, told)

    @property
    def doubled(self) -> bool:
        """Whether latents are denoised twice at a step: with the null, and with what is given."""
        return self.scale > 1

    def to(self, dtype: torch.dtype) -> Guided:
        """The same for a backbone that computes in ``dtype``."""
        return replace(self, dtype=dtype)

    @cached_property
    def _told(self) -> Condition:
        return self._prepared(self.condition)

    def _prepared(self, condition: Condition) -> Condition:
        """As the backbone takes it: the null before what is given where latents are doubled."""
        own = replace(condition, pixels_per_latent=self.condition.pixels_per_latent)
        told = own.doubled() if self.doubled else own
        return told if self.dtype is None else told.to(dtype=self.dtype)

    def _predict(self, latents: Tensor, timestep: Tensor, told: Condition) -> Tensor:
        noisy = torch.cat([latents, latents]) if self.doubled else latents
        times = timestep.to(latents.device).expand(len(noisy))
        noisy = noisy if self.dtype is None else noisy.to(self.dtype)
        output = denoise(self.backbone, noisy, times, told)
        output = output if self.dtype is None else output.to(latents.dtype)
        if not self.doubled:
            return output
        without, given = output.chunk(2)  # Ho and Salimans 2022, eq. 6, in the pipelines' form
        return without + self.scale * (given - without)


@dataclass(frozen=True)
class Start:
    """Where sampling begins: noise at the scheduler's first level, and what its steps need.

    A scheduler that adds noise between steps goes on drawing from the generators of the first noise, as pipelines do.
    """

    latents: Float[Tensor, "n c h w"]
    predict: Guided
    scheduler: Any  # of diffusers, its timesteps set
    generators: list[torch.Generator]


class Taken(NamedTuple):
    """A step that was taken: the latents as the network took them, what it predicted, and the latents after it."""

    timestep: Tensor
    scaled: Tensor
    output: Tensor
    latents: Tensor


AfterStep = Callable[[int, Taken], tuple[Tensor, bool]]
"""Called with a step's number, from 0, and what it came to: the latents to go on from, and whether to go on."""


def sample_latents(
    denoiser: Sampled,
    condition: Condition,
    seeds: Sequence[Seed],
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
    *,
    true_guidance: float = 1.0,
    control: Control | None = None,
    dtype: torch.dtype | None = None,
    after_step: AfterStep | None = None,
) -> Float[Tensor, "n c h w"]:
    """Latents of a condition's rows.

    FLUX is told the guidance, and its null takes part where ``true_guidance`` is above 1 (true_cfg_scale of its stock
    pipeline); for the others the null is denoised beside and ``guidance`` extrapolates from it. ``dtype``: what the backbone
    computes in where that is not float32. ``after_step`` sees every step and may exchange its latents or end the sampling.
    Raises FoundryError where ``latent_size`` (height, width) is missing for a model that names none, for true guidance of other
    families, and for latents of another shape that ``after_step`` gives.
    """
    start = start_sampling(
        denoiser, condition, seeds, steps, guidance, latent_size, true_guidance=true_guidance, control=control
    )
    if dtype is not None:
        start = replace(start, predict=start.predict.to(dtype))
    latents = start.latents
    for taken in denoising_steps(start, after_step):
        latents = taken.latents
    return latents


def denoising_steps(start: Start, after_step: AfterStep | None = None) -> Iterator[Taken]:
    """The loop of every sampling: steps one after the other, from noise to latents, or to where ``after_step`` ends it."""
    latents, extra = start.latents, extra_keywords(start.scheduler, start.generators)
    for index in range(len(start.scheduler.timesteps)):
        taken, goes_on = take_step(start.predict, start.scheduler, latents, index, extra), True
        if after_step is not None:
            taken, goes_on = _reconsidered(taken, *after_step(index, taken))
        yield taken
        if not goes_on:
            return
        latents = taken.latents


def _reconsidered(taken: Taken, latents: Tensor, goes_on: bool) -> tuple[Taken, bool]:
    """A step with other latents after it. Raises FoundryError for another shape."""
    if latents.shape != taken.latents.shape:
        raise FoundryError(
            f"latents after a step are {tuple(latents.shape)}, they were {tuple(taken.latents.shape)}; give as many of the "
            "same size"
        )
    return taken._replace(latents=latents.to(taken.latents)), goes_on


def take_step(predict: Guided, scheduler: Any, latents: Tensor, index: int, extra: dict[str, Any]) -> Taken:
    """One step of a scheduler that stands before step ``index``; ``extra`` are its :func:`extra_keywords`."""
    timestep = scheduler.timesteps[index]
    scaled = scaled_input(scheduler, latents, timestep)
    output = predict(scaled, timestep, index, len(scheduler.timesteps))
    after = scheduler.step(output, timestep, latents, return_dict=False, **extra)[0]
    return Taken(timestep, scaled, output, after)


def start_sampling(
    denoiser: Sampled,
    condition: Condition,
    seeds: Sequence[Seed],
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
    *,
    true_guidance: float = 1.0,
    control: Control | None = None,
) -> Start:
    """What :func:`sample_latents` prepares before its first step; arguments are the same."""
    device, backbone = denoiser.device, denoiser.backbone
    row = family_of(backbone)
    size = latent_size or own_size(backbone)
    if size is None:
        raise FoundryError(
            f"'latent_size' is missing, and {row.name} names no size of its own; give the data's"
        )
    scheduler = denoiser.fresh_scheduler()
    generators = generators_of(seeds)
    latents = draw_noise(generators, (latent_channels(backbone), *size)).to(device)
    _set_timesteps(scheduler, steps, row, latents)
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    scale = _extrapolation(row, guidance, true_guidance)
    told = replace(condition.to(device), guidance=guidance, pixels_per_latent=denoiser.pixels_per_latent)
    return Start(latents, Guided(backbone, told, scale, control=control), scheduler, generators)


def _extrapolation(row: Family, guidance: float, true_guidance: float) -> float:
    """By how much is extrapolated from the null; a scale of 1 or less is none."""
    if row.guidance == "embedded":
        return true_guidance
    if true_guidance != 1.0:
        raise FoundryError(
            f"'true_guidance' is {true_guidance:g}, which stands beside an embedded guidance, and {row.name} embeds none; "
            "give 'guidance' alone"
        )
    return guidance


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


def _set_timesteps(scheduler: Any, steps: int, row: Family, latents: Tensor) -> None:
    """Timesteps as the stock pipeline asks for them; flow schedulers may shift by the number of patches."""
    if row.timesteps == "plain":
        scheduler.set_timesteps(steps)
        return
    about, given = scheduler.config, {}
    if about.get("use_dynamic_shifting"):
        given["mu"] = _shift_of(about, latents.shape[-2] * latents.shape[-1] // 4)
    if row.timesteps == "given" and _takes_sigmas(scheduler):
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
