"""Other ways to make the same optimiser step: the bare computation, and diffusers' own training example.

The example is ``examples/text_to_image/train_text_to_image_sdxl.py`` of diffusers: its calls in its order on latents and
texts computed before, with its defaults, or with the fastest choices its flags and torch offer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional

from training.backbones import build_backbone, denoise, family_of
from training.feed.latents import LatentBatch
from training.loop.loop import Loop
from training.loop.optimizer import build_optimizer
from training.loop.precision import Precision
from training.measuring.synthetic import Case
from training.objectives.noised import NoisedObjective


def fixed_batch(loop: Loop, count: int) -> LatentBatch:
    """The loop's first ``count`` images, loaded once. Raises TypeError when it trains something else."""
    if not isinstance(loop.objective, NoisedObjective):
        raise TypeError(f"a diffusion loop is needed, found {type(loop.objective).__name__}")
    return loop.objective.load(loop.order.draw(0, count))


def floor_step(loop: Loop, case: Case) -> Callable[[], None]:
    """Forward, backward, clip and fused optimizer of the loop's model on one batch in memory, and nothing else."""
    device = next(loop.module.parameters()).device
    model = _copy(case, device)
    optimizer = build_optimizer(loop.recipe, model)
    precision = Precision(case.precision, device.type)
    batch = fixed_batch(loop, case.batch_size)
    timestep = torch.rand(case.batch_size, device=device) * 999
    target = torch.randn_like(batch.latents)

    def step() -> None:
        with precision.autocast():
            output = denoise(model, batch.latents, timestep, batch.condition)
        (output.float() - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class ExampleStep:
    """One step of diffusers' example. ``best``: channels-last, fused AdamW and EMA, compiled where asked for."""

    def __init__(self, loop: Loop, case: Case, *, best: bool, compile_model: bool = False) -> None:
        self.device = next(loop.module.parameters()).device
        self.model = _copy(case, self.device, channels_last=best and self.device.type == "cuda")
        self.forward: Any = torch.compile(self.model) if compile_model else self.model
        self.batch = fixed_batch(loop, case.batch_size)
        self.noise_scheduler = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear")
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, weight_decay=0.01, fused=best or None
        )
        self.lr_scheduler = get_scheduler("constant", optimizer=self.optimizer)
        self.ema = EMAModel(self.model.parameters(), foreach=best) if case.ema else None
        self.precision = Precision(case.precision, self.device.type)
        self.last_loss = float("nan")

    def loss(self, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mean squared error of the predicted noise."""
        noisy = self.noise_scheduler.add_noise(self.batch.latents, noise, timesteps)
        mask = (
            {"encoder_attention_mask": self.batch.condition.mask} if family_of(self.model).takes_mask else {}
        )
        with self.precision.autocast():
            prediction = self.forward(
                noisy,
                timestep=timesteps,
                encoder_hidden_states=self.batch.condition.states,
                return_dict=False,
                **mask,
            )[0]
        return functional.mse_loss(prediction[:, : noise.shape[1]].float(), noise.float(), reduction="mean")

    def __call__(self) -> None:
        """One step: the example reads the loss on the host every time."""
        noise = torch.randn_like(self.batch.latents)
        loss = self.loss(noise, torch.randint(0, 1000, (len(noise),), device=self.device))
        self.last_loss = loss.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.lr_scheduler.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.step(self.model.parameters())


def _copy(case: Case, device: torch.device, *, channels_last: bool = False) -> Any:
    model = build_backbone(case.backbone, 0).to(device).train()
    return model.to(memory_format=torch.channels_last) if channels_last else model
