"""Learning rate, optimiser and weight average, all counted in images seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.spec import Recipe

EMA_RAMP = 0.05  # the half life grows to at most this share of the images seen (Karras et al. 2024, appendix)


def learning_rate_at(recipe: Recipe, images_seen: float) -> float:
    """Rate after so many images: linear warm-up over ``warmup_images``, then constant or a half cosine to the end."""
    if images_seen < recipe.warmup_images:
        return recipe.learning_rate * images_seen / recipe.warmup_images
    if recipe.schedule == "constant":
        return recipe.learning_rate
    rest = max(recipe.images_total - recipe.warmup_images, 1)
    done = min((images_seen - recipe.warmup_images) / rest, 1.0)
    low = recipe.final_learning_rate_fraction
    return recipe.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def build_optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.AdamW:
    """AdamW in one fused pass; weights of two or more dimensions decay, biases and norms do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        betas=recipe.betas,
        eps=recipe.adam_epsilon,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class WeightAverage:
    """Exponential moving average of parameters with a half life in images, shorter at the start."""

    def __init__(self, module: nn.Module, half_life_images: int) -> None:
        self.half_life_images = half_life_images
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """Move towards the present weights after a batch."""
        half_life = max(min(self.half_life_images, EMA_RAMP * images_seen), 1e-8)
        torch._foreach_lerp_(
            self.average, [p.detach() for p in self.parameters], 1 - 0.5 ** (batch_size / half_life)
        )

    def tensors(self) -> dict[str, Tensor]:
        """The average under the names of the parameters."""
        return dict(zip(self.names, self.average, strict=True))

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put a saved average back."""
        for name, average in zip(self.names, self.average, strict=True):
            average.copy_(tensors[name])

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the module holds the average; after, its own weights again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)
