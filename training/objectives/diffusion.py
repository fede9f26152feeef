"""Denoising latents under a caption: flow matching, or epsilon and v under DDPM."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from training.diffusion.noise_process import Noising
from training.feed.latents import LatentBatch
from training.model_folders.parents import initial_backbone
from training.objectives.noised import NoisedObjective
from training.randomness import Draw
from training.recipes.diffusion import DiffusionOptions
from training.recipes.execution import Execution
from training.recipes.specification import TrainingSpecification


class DiffusionObjective(NoisedObjective):
    """The backbone learns what the data says, under one noise level an image."""

    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """Options and the backbone to train, from the seed or from the recipe's parent. Raises FoundryError."""
        options = spec.recipe.options_of(DiffusionOptions)
        noising = Noising(options.prediction, options.noise_schedule, options.zero_terminal_snr)
        return options, initial_backbone(spec, execution, noising)

    def loss(self, batch: LatentBatch, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean squared error of the prediction, and how often each caption was shown."""
        noised = self.noised(batch, draw)
        output = self.predict(self.module, noised.noisy, noised.level, noised.condition)
        squared = (output - self.data_target(noised)).square()
        weights = self.weights_of(noised.level)
        if weights is not None:
            squared = squared * weights[:, None, None, None]
        return squared.mean(), self.caption_counts(batch.captions)
