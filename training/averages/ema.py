"""Averages of weights over training, counted in images: a half life, or a power function whose width is chosen later.

``WeightAverage`` keeps one running average. Which one is its ``decay``: :func:`half_life_decay` is the usual
exponential average with a ramp; :func:`power_decay` weighs the past by a power of the images seen (Karras et al. 2024,
"Analyzing and Improving the Training Dynamics of Diffusion Models", section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.averages.power_ema import gamma_of
from training.recipes.specification import Recipe

HALF_LIFE_RAMP = (
    0.05  # the half life grows to at most this share of the images seen (Karras et al. 2024, appendix)
)

Decay = Callable[[int, int], float]
"""(images seen with the batch, images of the batch) -> share of the old average that stays, in [0, 1]."""


def half_life_decay(half_life_images: int) -> Decay:
    """Exponential average that halves in so many images, faster at the start."""

    def decay(images_seen: int, batch_size: int) -> float:
        half_life = max(min(half_life_images, HALF_LIFE_RAMP * images_seen), 1e-8)
        return 0.5 ** (batch_size / half_life)

    return decay


def power_decay(sigma_rel: float) -> Decay:
    """beta(t) = (1 - n/t)^(gamma + 1), with t and the batch n in images (Karras et al. 2024, eq. 127)."""
    gamma = gamma_of(sigma_rel)
    return lambda images_seen, batch_size: (1 - batch_size / images_seen) ** (gamma + 1)


def build_averages(recipe: Recipe, module: nn.Module) -> dict[str, WeightAverage]:
    """The recipe's averages by the name of their group in a checkpoint; the first one is the exported model."""
    decays: dict[str, Decay] = {}
    if recipe.ema_half_life_images:
        decays["ema"] = half_life_decay(recipe.ema_half_life_images)
    for sigma_rel in recipe.power_ema_sigma_rels:
        decays[power_group(sigma_rel)] = power_decay(sigma_rel)
    return {group: WeightAverage(module, decay) for group, decay in decays.items()}


def power_group(sigma_rel: float) -> str:
    """Name of a power-function average in checkpoints and snapshots."""
    return f"power_ema_{sigma_rel:g}"


class WeightAverage:
    """A running average of the trained parameters."""

    def __init__(self, module: nn.Module, decay: Decay) -> None:
        self.decay = decay
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.names = list(trained)
        self.parameters = list(trained.values())
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """Move towards the present weights after a batch; ``images_seen`` counts it already."""
        share = 1 - self.decay(images_seen, batch_size)
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], share)

    def tensors(self) -> dict[str, Tensor]:
        """The average under the names of the parameters."""
        return dict(zip(self.names, self.average, strict=True))

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
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
