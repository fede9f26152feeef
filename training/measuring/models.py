"""Models whose speed and memory are measured: of the right shapes on the device at once, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.backbones import Backbone, build_backbone, build_on_meta, variant
from training.pruning import Keep, keep_best, prune
from training.pruning.baselines import random_scores
from training.pruning.units import DEFAULT_KINDS

WEIGHT_STD = 0.02


def random_model(name: str, device: str, format_: torch.dtype, *, channels_last: bool = False) -> Backbone:
    """A registered backbone in evaluation mode, filled where it lies: 12 billion weights take seconds on a GPU.

    One with buffers, which are computed when it is built, is built in the host's memory.
    """
    model: Any = build_on_meta(variant(name)).to(format_)
    if any(True for _ in model.named_buffers()):
        model = build_backbone(name, 0).eval().to(device, format_)
    else:
        model.to_empty(device=device)
        fill(model)
    return model.to(memory_format=torch.channels_last) if channels_last else model


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Small random matrices, normalisations that change nothing, no biases: activations stay finite in any format."""
    draw = torch.Generator(next(model.parameters()).device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, WEIGHT_STD, generator=draw)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)


def pruned_at_random(model: Backbone, percent: int) -> Backbone:
    """A copy with the units of :func:`kept_at_random`."""
    return prune(model, kept_at_random(model, percent))


def kept_at_random(model: Backbone, percent: int) -> Keep:
    """All heads and neurons but this share of every layer, by chance; a backbone on the meta device will do."""
    scores = random_scores(model, DEFAULT_KINDS, seed=0)
    ratios = dict.fromkeys(DEFAULT_KINDS, f"{(100 - percent) / 100:.2f}")
    return keep_best(scores, ratios, "layer")


def parameters_of(model: nn.Module) -> int:
    """Parameters that the model has."""
    return sum(parameter.numel() for parameter in model.parameters())
