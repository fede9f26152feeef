"""Stock schedulers as steps of a chain: each step a function of state, index and noise, so that it can be taken again.

A scheduler of diffusers remembers where it stands and, if it is a multistep one, what the network said before. Here that
memory is set anew for each step, before the input is scaled: Euler's schedulers scale it by the noise level of the step they
believe to be at (EcoDiff sheet, section 10, 1).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from training.conditioning import Condition
from training.errors import FoundryError
from training.sampling.control import Control
from training.sampling.denoising_loop import (
    Guided,
    Sampled,
    extra_keywords,
    scaled_input,
    start_sampling,
    take_step,
)
from training.sampling.gradient_checkpointing import Chain, ReplayableNoise, State

SINGLE_STEP = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "LCMScheduler",
)
"""Schedulers whose step depends on latents, timestep and noise alone."""

MULTISTEP = ("DPMSolverMultistepScheduler",)
"""Schedulers that remember the network's last ``solver_order - 1`` converted outputs, which become part of the state."""


def check_replayable(scheduler: Any) -> None:
    """Raises FoundryError for a scheduler whose steps cannot be taken again one by one, by its name."""
    name = type(scheduler).__name__
    if name not in SINGLE_STEP + MULTISTEP:
        raise FoundryError(
            f"scheduler: a {name} remembers more between its steps than can be differentiated here; allowed are "
            f"{', '.join(SINGLE_STEP + MULTISTEP)}; sample with one of them"
        )


class SamplerStep:
    """One step of a sampler: (x_i, remembered outputs), i -> (x_{i+1}, remembered outputs)."""

    def __init__(self, predict: Guided, scheduler: Any, generators: Sequence[torch.Generator]) -> None:
        """``scheduler`` has its timesteps set. Raises FoundryError for one that cannot be replayed."""
        check_replayable(scheduler)
        self.predict, self.scheduler, self.generators = predict, scheduler, tuple(generators)

    def __call__(self, state: State, index: int) -> State:
        """The state after step ``index``."""
        latents, *remembered = state
        # A copy that the call owns: nothing of this step's graph stays behind in the scheduler.
        scheduler = standing_at(self.scheduler, index, remembered)
        extra = extra_keywords(scheduler, self.generators)
        taken = take_step(self.predict, scheduler, latents, index, extra)
        return taken.latents, *_remembered(scheduler)

    def prediction(self, latents: Float[Tensor, "n c h w"], index: int) -> Float[Tensor, "n c h w"]:
        """What the network, guided, says of the latents that step ``index`` begins with; no step is taken."""
        scheduler = standing_at(self.scheduler, index)
        timestep = scheduler.timesteps[index]
        return self.predict(
            scaled_input(scheduler, latents, timestep), timestep, index, len(scheduler.timesteps)
        )


def standing_at(scheduler: Any, index: int, remembered: Sequence[torch.Tensor] = ()) -> Any:
    """A copy of a scheduler as it stands before step ``index``, having seen the ``remembered`` outputs."""
    placed = copy.copy(scheduler)
    if hasattr(placed, "_step_index"):
        placed._step_index = index
    if type(placed).__name__ in MULTISTEP:
        order = placed.config.solver_order
        placed.model_outputs = [*[None] * (order - len(remembered)), *remembered]
        placed.lower_order_nums = min(index, order)
    return placed


def _remembered(scheduler: Any) -> State:
    """The outputs that the next step will look back at; the oldest is shifted out by then."""
    if type(scheduler).__name__ not in MULTISTEP:
        return ()
    return tuple(output for output in scheduler.model_outputs[1:] if output is not None)


def sampling_chain(
    denoiser: Sampled,
    condition: Condition,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    latent_size: tuple[int, int] | None = None,
    *,
    true_guidance: float = 1.0,
    control: Control | None = None,
) -> Chain:
    """The chain of :func:`training.sampling.denoising_loop.sample_latents`, whose arguments it takes: it ends in the same latents.

    Latents are kept in float32, or float64 where the backbone computes in that; the backbone keeps its own precision.
    Raises FoundryError for a scheduler that cannot be replayed.
    """
    start = start_sampling(
        denoiser, condition, seeds, steps, guidance, latent_size, true_guidance=true_guidance, control=control
    )
    dtype = next(denoiser.backbone.parameters()).dtype
    latents = start.latents.to(torch.promote_types(torch.float32, dtype))
    step = SamplerStep(start.predict.to(dtype), start.scheduler, start.generators)
    return Chain(step, (latents,), len(start.scheduler.timesteps), ReplayableNoise(start.generators))
