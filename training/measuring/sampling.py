"""One guided step of sampling: dense models, and pruned ones beside what they were pruned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from training.backbones import Backbone, denoise, family_of, latent_shape, pooled_dim, text_dim
from training.conditioning import Condition
from training.measuring.devices import time_calls
from training.measuring.models import parameters_of, pruned_at_random, random_model
from training.measuring.rows import Measurement, Row, backbone_of, release_memory, time_and_memory
from training.measuring.synthetic import TOKENS

SAMPLED = ("SDXL-stock", "SDXL-TD4_4", "KOALA-1B", "KOALA-700M", "FLUX.1-schnell")
PRUNED: Mapping[str, tuple[int, ...]] = {"SDXL-stock": (10, 20, 50), "FLUX.1-schnell": (20,)}
"""Percent of the heads and neurons of every layer that are removed."""

IMAGES = 4  # of the larger batch: a single image may leave a GPU waiting for the host
LATENT_SIDE = 128  # at 1024 px


def sampling_measurements() -> dict[str, Measurement]:
    """Every measurement of sampling by its name."""
    pruned = {
        f"sampling.{name}.pruned-{percent}": _pruned(name, percent)
        for name, shares in PRUNED.items()
        for percent in shares
    }
    return {f"sampling.{name}": _dense(name) for name in SAMPLED} | pruned


def _dense(name: str) -> Measurement:
    def measure(device: str, smoke: bool) -> Row:
        """One guided step at 1024 px in half precision, for one image and for several."""
        model = _model(name, device, smoke)
        return {"backbone": backbone_of(name, smoke), **_speed(model, device, smoke)}

    return measure


def _pruned(name: str, percent: int) -> Measurement:
    def measure(device: str, smoke: bool) -> Row:
        """The same of a pruned model, and in the same call of the dense one, so that the two can be compared.

        ``speedup`` is dense time over pruned time; ``parameter_ratio``, the same of parameters, is no measure of time.
        """
        model = _model(name, device, smoke)
        dense = _speed(model, device, smoke)
        model = pruned_at_random(model, percent)
        release_memory()
        pruned = _speed(model, device, smoke)
        return {
            "backbone": backbone_of(name, smoke),
            "unit_sparsity": percent / 100,
            **pruned,
            "parameter_share": pruned["parameters"] / dense["parameters"],
            "parameter_ratio": dense["parameters"] / pruned["parameters"],
            "speedup": dense["milliseconds"] / pruned["milliseconds"],
            "batch_speedup": dense["batch_milliseconds"] / pruned["batch_milliseconds"],
            "dense": dense,
        }

    return measure


def _model(name: str, device: str, smoke: bool) -> Backbone:
    return random_model(backbone_of(name, smoke), device, _format(name, device), channels_last=True)


def _format(name: str, device: str) -> torch.dtype:
    """FLUX overflows in fp16."""
    if device != "cuda":
        return torch.float32
    return torch.bfloat16 if name.startswith("FLUX") else torch.float16


@torch.inference_mode()
def _speed(model: Backbone, device: str, smoke: bool) -> Row:
    """Parameters, milliseconds of a step and peak memory; ``batch_...``: the same of several images at once."""
    repeats = {"warmup": 0, "calls": 2} if smoke else {"warmup": 3, "calls": 20}
    one, several = (
        time_and_memory(time_calls(guided_step(model, images, smoke), device, **repeats))
        for images in (1, IMAGES)
    )
    return {
        "parameters": parameters_of(model),
        **one,
        "batch_images": IMAGES,
        **{f"batch_{name}": value for name, value in several.items()},
        "batch_milliseconds_per_image": several["milliseconds"] / IMAGES,
    }


def guided_step(model: Backbone, images: int, smoke: bool) -> Callable[[], Tensor]:
    """The denoiser on latents of so many images: with and without text, but FLUX, which is told the guidance, once."""
    like = next(model.parameters())
    count = images if family_of(model).guidance == "embedded" else 2 * images
    channels, side, _ = latent_shape(model)
    side = side if smoke else LATENT_SIDE
    width = pooled_dim(model.config)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, device=like.device, dtype=like.dtype)

    noisy, states = normal(count, channels, side, side), normal(count, TOKENS, text_dim(model.config))
    timestep = torch.full((count,), 500.0, device=like.device, dtype=like.dtype)
    mask = torch.ones(count, TOKENS, dtype=torch.bool, device=like.device)
    condition = Condition(states, mask, normal(count, width) if width else None)
    return lambda: denoise(model, noisy, timestep, condition)
