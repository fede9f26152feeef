"""Small stand-ins for what learns masks: a denoiser without folder, prompts without text, masks hung on by plain hooks."""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)
from torch import Tensor, nn

from training.backbones import build_backbone, pooled_dim, text_dim
from training.conditioning import Condition
from training.sampling.denoising_loop import extra_keywords, scaled_input, start_sampling
from training.sampling.gradient_checkpointing import Chain, State

Masks = Callable[[Any], Tensor]
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "DDIM": lambda: DDIMScheduler(**BETAS, clip_sample=False, prediction_type="v_prediction"),
    "DDPM": lambda: DDPMScheduler(**BETAS, clip_sample=False, prediction_type="v_prediction"),
    "Euler": lambda: EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction"),
    "Euler ancestral": lambda: EulerAncestralDiscreteScheduler(**BETAS, prediction_type="v_prediction"),
    "flow Euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "LCM": lambda: LCMScheduler(**BETAS, prediction_type="v_prediction"),
    "DPM-Solver++ 1": lambda: dpm_solver(solver_order=1),
    "DPM-Solver++ 2": lambda: dpm_solver(solver_order=2),
    "DPM-Solver++ 2 Heun": lambda: dpm_solver(solver_order=2, solver_type="heun"),
    "DPM-Solver++ 3": lambda: dpm_solver(solver_order=3),
    "SDE-DPM-Solver++ 2": lambda: dpm_solver(solver_order=2, algorithm_type="sde-dpmsolver++"),
    "flow DPM-Solver++ 2": lambda: DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
}


def dpm_solver(**options: Any) -> Any:
    """Stock DPM-Solver on the betas of latent diffusion."""
    return DPMSolverMultistepScheduler(**BETAS, prediction_type="v_prediction", **options)


@dataclass
class FakeDenoiser:
    """What a sampler needs of a model."""

    backbone: Any
    make_scheduler: Callable[[], Any]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    pixels_per_latent: int = 8

    def fresh_scheduler(self) -> Any:
        """A new scheduler."""
        return self.make_scheduler()


def frozen(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A registered backbone of random weights that no gradient reaches; none of its layers starts at zero."""
    backbone = build_backbone(name, 0).to(dtype).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float32)
            parameter.add_(0.05 * noise.to(dtype))
    return backbone


def prompts_for(backbone: Any, count: int = 1, tokens: int = 3) -> Condition:
    """Random token states of the width that the backbone takes."""
    random = np.random.default_rng(0)
    width, pooled = text_dim(backbone.config), pooled_dim(backbone.config)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    mask = np.ones((count + 1, tokens), np.bool_)
    return Condition.of_arrays(
        normal(count + 1, tokens, width), mask, None if pooled is None else normal(count + 1, pooled)
    ).last_as_null()


def unit_counts(backbone: nn.Module) -> dict[str, dict[str, int]]:
    """Heads by attention layer, neurons by feed-forward layer."""
    counts: dict[str, dict[str, int]] = {"heads": {}, "ffn": {}}
    for name, module in backbone.named_modules():
        if name.endswith(".to_out.0"):
            attention: Any = backbone.get_submodule(name.removesuffix(".to_out.0"))
            counts["heads"][name] = int(attention.heads)
        elif name.endswith(".net.2") or ("single_transformer_blocks" in name and name.endswith("proj_out")):
            counts["ffn"][name] = int(module.in_features)
    return counts


@contextmanager
def masked(backbone: nn.Module, masks: Masks) -> Iterator[None]:
    """While it lasts, every unit's output is multiplied by its mask, asked for at every call of the layer."""
    handles = [
        backbone.get_submodule(name).register_forward_pre_hook(_multiply(kind, name, masks))
        for kind, layers in unit_counts(backbone).items()
        for name in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _multiply(kind: str, name: str, masks: Masks) -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
    def multiply(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        mask = masks((kind, name))
        units = inputs[0].unflatten(-1, (len(mask), -1))
        return (units * mask[:, None].to(units.dtype)).flatten(-2), *inputs[1:]

    return multiply


class NoisyMasks:
    """sigmoid(lambda + noise of (step, layer)): stochastic and replayable by the step's number."""

    def __init__(self, backbone: nn.Module, dtype: torch.dtype = torch.float64, salt: str = "") -> None:
        draw = torch.Generator().manual_seed(2)
        self.logits = {
            (kind, name): torch.randn(count, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
            for kind, layers in unit_counts(backbone).items()
            for name, count in layers.items()
        }
        self.salt, self.step = salt, 0

    @property
    def parameters(self) -> list[Tensor]:
        """All logits."""
        return list(self.logits.values())

    def __call__(self, key: Any) -> Tensor:
        """The mask of a layer at the current step."""
        kind, name = key
        logits = self.logits[kind, name]
        draw = torch.Generator().manual_seed(zlib.crc32(f"{self.salt}/{self.step}/{name}".encode()))
        return torch.sigmoid(logits + torch.randn(len(logits), generator=draw, dtype=torch.float64))


def stepping_masks(chain: Chain, masks: Any) -> Chain:
    """The chain whose steps tell the masks their number."""

    def step(state: State, index: int) -> State:
        masks.step = index
        return chain.step(state, index)

    return Chain(step, chain.start, chain.num_steps, chain.noise)


def full_graph_latents(
    denoiser: Any,
    prompts: Condition,
    seeds: list[int],
    steps: int,
    guidance: float,
    masks: Any,
    latent_size: tuple[int, int] = (8, 8),
) -> Tensor:
    """x_T with the whole graph: the scheduler used as pipelines use it, one step after the other."""
    start = start_sampling(denoiser, prompts, seeds, steps, guidance, latent_size)
    dtype = next(denoiser.backbone.parameters()).dtype
    latents, predict, scheduler = start.latents.to(dtype), start.predict.to(dtype), start.scheduler
    extra = extra_keywords(scheduler, start.generators)
    for index, timestep in enumerate(scheduler.timesteps):
        masks.step = index
        output = predict(scaled_input(scheduler, latents, timestep), timestep, index, steps)
        latents = scheduler.step(output, timestep, latents, return_dict=False, **extra)[0]
    return latents


class SavedBytes:
    """Bytes that autograd keeps for backward while hooks of this are on: the most at any time, each storage once.

    ``ignored``: tensors that are there anyway, such as weights.
    """

    def __init__(self, ignored: Iterable[Tensor] = ()) -> None:
        self.ignored = {tensor.untyped_storage().data_ptr() for tensor in ignored}
        self.holders: dict[int, int] = {}  # how often each storage is kept
        self.now = self.most = 0

    @contextmanager
    def counting(self) -> Iterator[SavedBytes]:
        """Count inside."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept.tensor):
            yield self

    def _keep(self, tensor: Tensor) -> _Kept:
        kept = _Kept(tensor.detach())
        place, size = kept.place()
        if place in self.ignored:
            return kept
        self.holders[place] = self.holders.get(place, 0) + 1
        if self.holders[place] == 1:
            self.now += size
            self.most = max(self.most, self.now)
        weakref.finalize(kept, self._let_go, place, size)
        return kept

    def _let_go(self, place: int, size: int) -> None:
        self.holders[place] -= 1
        if not self.holders[place]:
            self.now -= size


class _Kept:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def place(self) -> tuple[int, int]:
        storage = self.tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
