"""What the loop adds to forward, backward and optimiser stays small at demo sizes."""

from __future__ import annotations

import time

import pytest
import torch

from tests.training.conftest import RunMaker
from training.backbones import build_backbone, denoise
from training.loop.loop import Loop
from training.loop.optimizer import build_optimizer
from training.objectives import build_objective

BATCH, STEPS, ROUNDS = 32, 4, 5


@pytest.mark.benchmark
def test_overhead_of_a_step(runs: RunMaker) -> None:
    """CPU seconds of a loop step over those of the bare computation, smallest of several rounds.

    The bound is loose, as shape checks are on in tests; without them it is 1.01 to 1.1.
    """
    spec = runs.spec(backbone="PixArt-demo-h64-d4", batch_size=BATCH, images_total=10_000)
    folder = runs.prepare(backbone="PixArt-demo-h64-d4", batch_size=BATCH, images_total=10_000)
    loop = Loop(folder, spec.recipe, runs.execution(), build_objective(spec, runs.execution(), "cpu"))
    model = build_backbone("PixArt-demo-h64-d4", 0)
    optimizer = build_optimizer(spec.recipe, model)
    batch = loop.objective.load(loop.order.draw(0, BATCH))
    level = torch.rand(BATCH) * 1000

    def bare() -> None:
        output = denoise(model, batch.latents, level, batch.condition)
        (output - batch.latents).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()

    def seconds(step: object) -> float:
        begun = time.process_time()
        for _ in range(STEPS):
            step()  # type: ignore[operator]
        return time.process_time() - begun

    bare()
    loop._step()
    times = [(seconds(loop._step), seconds(bare)) for _ in range(ROUNDS)]
    ratio = min(ours for ours, _ in times) / min(floor for _, floor in times)
    assert ratio < 1.35, f"a step costs {ratio:.3f} times the bare computation"
