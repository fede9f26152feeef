"""Learning rate, counted in images seen, and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from training.errors import FoundryError
from training.loop.adamw_8bit import EightBitAdamW
from training.loop.muon import Muon
from training.recipes.specification import Recipe


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


def build_optimizer(
    recipe: Recipe, module: nn.Module, matrices: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """What the recipe names; weights of two or more dimensions decay, biases and norms do not.

    ``matrices``: the hidden ones, which Muon takes. Raises FoundryError where the optimiser cannot train these parameters.
    """
    options = recipe.optimizer
    taken = {id(matrix) for matrix in matrices}
    trained = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    settings: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": recipe.betas,
        "eps": recipe.adam_epsilon,
    }
    if options.name == "muon":
        if not matrices:
            raise FoundryError(
                f"recipe '{recipe.name}': optimizer 'muon' found no hidden matrix to train; say adamw, or let adapters sit "
                "at linear layers of blocks"
            )
        return Muon(
            matrices,
            groups,
            matrix_rate=options.matrix_rate,
            momentum=options.momentum,
            weight_decay=recipe.weight_decay,
            in_bfloat16=recipe.precision == "bf16",
            **settings,
        )
    if options.name == "adamw8bit":
        if any(isinstance(parameter, DTensor) for parameter in trained):
            raise FoundryError(
                f"recipe '{recipe.name}': optimizer 'adamw8bit' keeps whole tensors and cannot share them under fsdp; "
                "say strategy 'ddp' in execution.json, or optimizer 'adamw'"
            )
        return EightBitAdamW(groups, **settings)
    return torch.optim.AdamW(groups, **settings, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def rates_of(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rates as they stand, by their names in the metrics."""
    rate = float(optimizer.param_groups[0]["lr"])
    rates = {"learning_rate": rate}
    if isinstance(optimizer, Muon):
        rates["matrix_learning_rate"] = rate * optimizer.matrix_rate
    return rates
