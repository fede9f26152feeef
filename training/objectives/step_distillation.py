"""Step distillation: a student that draws in one to four steps what its teacher draws in many.

Latent consistency distillation (Luo et al. 2023, "Latent Consistency Models", sections 4.1 to 4.3). On the grid
t_0 < ... < t_N of :mod:`training.diffusion.consistency` the loss is that of Song et al. 2023, eq. 7,

    L = E d( f(x_n, t_n), f^-(x_{n-1}, t_{n-1}) ),  n uniform in 1 .. N,

with x_n a noised latent and x_{n-1} one DDIM step of the guided teacher from there (skipping k = 1000 / N timesteps,
section 4.3; guidance as in section 4.2). f^- is a moving average of the student (eq. 8). Guidance is thereby built in:
a student is sampled without. Progressive distillation (Salimans and Ho 2022) makes a student for one number of steps;
this one serves any, for every step starts anew from the whole way to the clean latent.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.averages.ema import WeightAverage, half_life_decay
from training.backbones import denoise
from training.diffusion import consistency
from training.feed.latents import LatentBatch
from training.model_folders.parents import Parent, load_parent
from training.objectives.noised import NoisedObjective, options_under
from training.randomness import Draw
from training.recipes.diffusion import DiffusionOptions
from training.recipes.execution import Execution
from training.recipes.specification import TrainingSpecification
from training.recipes.step_distillation import StepDistillationOptions


class StepDistillationObjective(NoisedObjective):
    """Owns the student (``module``), the frozen teacher and the target network, and the training shards."""

    few_step = True

    def __init__(self, spec: TrainingSpecification, execution: Execution, device: str) -> None:
        self.distillation = options = spec.recipe.options_of(StepDistillationOptions)
        super().__init__(spec, execution, device)
        self.teacher = copy.deepcopy(self.module).requires_grad_(False).eval()
        half_life = options.target_half_life_images
        self.average = WeightAverage(self.module, half_life_decay(half_life)) if half_life else None
        self.target = self._target_network()
        self.null = self.feed.null()

    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """The teacher's weights are where the student starts, and its prediction is the student's."""
        parent: Parent = load_parent(spec, execution)
        return options_under(parent.noising, caption_dropout=0.0), parent.backbone

    def loss(self, batch: LatentBatch, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Distance between the student's answer at t_n and the target's at t_{n-1}, and how often captions showed."""
        num_intervals = self.distillation.intervals
        index = torch.from_numpy(1 + np.floor(draw.uniform("noise_level") * num_intervals).astype(np.int64))
        levels = [
            consistency.level_of_interval(self.noising, index - back, num_intervals).to(self.device)
            for back in (0, 1)
        ]
        noisy = self.noised(batch, draw, levels[0]).noisy
        target = self._target(batch, noisy, levels[0], levels[1], self._guidance(draw))
        student = self._consistency(self.module, batch, noisy, levels[0])
        loss = consistency.distance(student, target, self.distillation.huber)
        return loss, self.caption_counts(batch.captions)

    @torch.inference_mode()
    def teacher_clean(
        self,
        batch: LatentBatch,
        noisy: Float[Tensor, "b c h w"],
        level: Float[Tensor, " b"],
        guidance: Float[Tensor, " b"],
    ) -> Float[Tensor, "b c h w"]:
        """The clean latent that the guided teacher sees; one pass where nothing is guided."""
        timestep = self.noising.timestep(level)
        if bool((guidance == 1).all()):
            output = denoise(self.teacher, noisy, timestep, batch.condition)
            return self.noising.clean(noisy, output.float(), level)
        both = batch.condition.with_null(self.null).doubled()
        doubled = denoise(self.teacher, noisy.repeat(2, 1, 1, 1), timestep.repeat(2), both)
        unconditional, conditional = doubled.float().chunk(2)
        output = consistency.guided(unconditional, conditional, guidance)
        return self.noising.clean(noisy, output, level)

    def extra_state(self) -> dict[str, Tensor]:
        """The target network's weights; none where the student is its own target."""
        return self.average.tensors() if self.average else {}

    def restore_extra_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a saved target network back."""
        if self.average:
            self.average.restore(dict(tensors))

    def after_step(self, images_seen: int, batch_size: int) -> None:
        """Move the target network towards the student (Song et al. 2023, eq. 8)."""
        if self.average:
            self.average.update(images_seen, batch_size)

    def _target(
        self,
        batch: LatentBatch,
        noisy: Float[Tensor, "b c h w"],
        level: Float[Tensor, " b"],
        lower: Float[Tensor, " b"],
        guidance: Float[Tensor, " b"],
    ) -> Float[Tensor, "b c h w"]:
        """f^- one teacher's step further down: the teacher's own clean latent where that step ends at t = 0."""
        clean = self.teacher_clean(batch, noisy, level, guidance)
        with torch.no_grad():
            further = consistency.ode_step(self.noising, noisy, clean.clone(), level, lower)
            return self._consistency(self.target, batch, further, lower)

    def _consistency(
        self, network: Any, batch: LatentBatch, noisy: Float[Tensor, "b c h w"], level: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        output = self.predict(network, noisy, level, batch.condition)
        return consistency.consistency_function(self.noising, noisy, output, level)

    def _guidance(self, draw: Draw) -> Float[Tensor, " b"]:
        low, high = self.distillation.guidance_min, self.distillation.guidance_max
        scale = low + (high - low) * torch.from_numpy(draw.uniform("guidance"))
        return scale.float().to(self.device)

    def _target_network(self) -> Any:
        """A network whose parameters are the average itself, so that it follows every update."""
        if self.average is None:
            return self.module
        network = copy.deepcopy(self.module).requires_grad_(False)
        for parameter, average in zip(network.parameters(), self.average.average, strict=True):
            parameter.data = average
        return network
