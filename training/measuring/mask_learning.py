"""One update of learned masks through the whole sampling chain: time, and memory that is to be flat over the steps T."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from training.backbones import Backbone, latent_shape, pooled_dim, text_dim
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.measuring.devices import Timing, time_calls
from training.measuring.models import random_model
from training.measuring.rows import Measurement, Row, backbone_of, time_and_memory
from training.measuring.synthetic import TOKENS
from training.model_folders.denoiser import Denoiser
from training.pruning import masked, unit_groups
from training.pruning.learning import MaskLearner
from training.recipes.pruning import pruning_preset

STEPS: Mapping[str, tuple[int, ...]] = {"SDXL-stock": (4, 8, 16, 32, 50), "FLUX.1-schnell": (4,)}
"""T by model."""

WHOLE_GRAPH = ("SDXL-stock", 4)
"""Where the whole graph is tried beside; that it does not fit is a result."""

SETTINGS = {"SDXL-stock": "SDXL", "FLUX.1-schnell": "FLUX.1-schnell"}  # of EcoDiff's official code
LATENT_SIDE = 128  # at 1024 px
SMOKE_STEPS = 2


def mask_measurements() -> dict[str, Measurement]:
    """Every measurement of mask learning by its name."""
    name, steps = WHOLE_GRAPH
    checkpointed = {
        f"masks.{name}.T={steps}": _update(name, steps) for name, many in STEPS.items() for steps in many
    }
    return {**checkpointed, f"masks.{name}.T={steps}.whole-graph": _whole_graph(name, steps)}


def _update(name: str, steps: int) -> Measurement:
    def measure(device: str, smoke: bool) -> Row:
        """An update from one prompt, guided where the model is, in bf16; the dense sample was drawn before."""
        learner = build_learner(name, steps, device, smoke)
        return {**_about(learner, name, smoke), **time_and_memory(_timed(learner, device, smoke))}

    return measure


def _whole_graph(name: str, steps: int) -> Measurement:
    def measure(device: str, smoke: bool) -> Row:
        """The same gradient with the activations of all steps kept; ``ratio``: checkpointed time over this one's."""
        learner = build_learner(name, steps, device, smoke)
        checkpointed = _timed(learner, device, smoke)
        repeats = {"warmup": 0, "calls": 1 if smoke else 3}
        whole = time_calls(lambda: whole_graph_gradients(learner, 0, 0), device, **repeats)
        return {
            **_about(learner, name, smoke),
            **time_and_memory(whole),
            **{f"checkpointed_{key}": value for key, value in time_and_memory(checkpointed).items()},
            "ratio": checkpointed.seconds / whole.seconds,
        }

    return measure


def _timed(learner: MaskLearner, device: str, smoke: bool) -> Timing:
    calls = 1 if smoke or learner.options.steps > 8 else 3
    return time_calls(learner.update, device, warmup=0, calls=calls)


def _about(learner: MaskLearner, name: str, smoke: bool) -> Row:
    return {
        "backbone": backbone_of(name, smoke),
        "steps": learner.options.steps,
        "guidance": learner.options.guidance,
        "units": sum(len(logits) for logits in learner.parameters),
    }


def build_learner(name: str, steps: int, device: str, smoke: bool) -> MaskLearner:
    """Masks of every unit that the official settings learn, of a model of random weights with one prompt."""
    format_ = torch.bfloat16 if device == "cuda" else torch.float32
    backbone = random_model(backbone_of(name, smoke), device, format_)
    options = pruning_preset(
        SETTINGS[name], steps=min(steps, SMOKE_STEPS) if smoke else steps, prompts=1, accumulate=1
    )
    kinds = [kind for kind, rate in options.learning_rates.items() if rate]
    units: dict[str, dict[str, int]] = {}
    for group in unit_groups(backbone, kinds):
        units.setdefault(group.kind, {})[group.name] = group.num_units
    side = latent_shape(backbone)[1] if smoke else LATENT_SIDE
    return MaskLearner(
        _denoiser(name, backbone),
        _prompt(backbone),
        units,
        partial(masked, kinds=kinds),
        options,
        latent_size=(side, side),
    )


def whole_graph_gradients(learner: MaskLearner, row: int, draw: int) -> tuple[Tensor, ...]:
    """What :meth:`MaskLearner.distance_gradients` computes end to end, without checkpoints."""
    target = learner.target(row)
    with learner.masking(learner.denoiser.backbone, learner.masks), torch.enable_grad():
        chain = learner._masked_chain(row, draw)
        state = chain.start
        for index in range(chain.num_steps):
            state = chain.step(state, index)
        distance = (target.to(state[0]) - state[0]).square().mean()
        return torch.autograd.grad(distance, learner.parameters, allow_unused=True, materialize_grads=True)


def _denoiser(name: str, backbone: Backbone) -> Denoiser:
    """With the scheduler that the model is released with; nothing is decoded, so there is no autoencoder."""
    if name.startswith("FLUX"):
        return Denoiser(backbone, None, Noising("flow"), scheduler=FlowMatchEulerDiscreteScheduler())
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = EulerDiscreteScheduler(**betas, timestep_spacing="leading", steps_offset=1)
    return Denoiser(backbone, None, Noising("epsilon"), scheduler=scheduler)


def _prompt(backbone: Backbone) -> Condition:
    random = np.random.default_rng(0)
    width, pooled = text_dim(backbone.config), pooled_dim(backbone.config)

    def normal(*shape: int) -> Any:
        return random.normal(size=shape).astype(np.float32)

    states, mask = normal(2, TOKENS, width), np.ones((2, TOKENS), np.bool_)
    return Condition.of_arrays(states, mask, normal(2, pooled) if pooled else None).last_as_null()
