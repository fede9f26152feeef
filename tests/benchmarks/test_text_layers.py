"""A sweep over text layers against the plain loop over them, at equal results; CPU time of one thread, paired in one run."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.pruning.stand_ins import SCHEDULERS, FakeDenoiser, prompts_for
from training.backbones import build_backbone
from training.conditioning import Condition
from training.localization import Patched, Recorded, TextCache, text_layers
from training.localization.lockstep import Prompts, Variant, draw_variants
from training.sampling.control import Window
from training.sampling.denoising_loop import sample_latents

pytestmark = pytest.mark.benchmark
ROUNDS, PAIRS, STEPS, START = 3, 4, 10, Window(0.2)
SHAPES = {"SD3-writer": (8, 16), "SD3-demo-h128-d4": (16, 16), "UNet-teacher": (16, 16)}
TIMES_FASTER = 3.0


@pytest.mark.parametrize("name", list(SHAPES))
def test_sweep_over_the_plain_loop(name: str) -> None:
    torch.set_num_threads(1)
    backbone = build_backbone(name, 0).eval().requires_grad_(False)
    denoiser = FakeDenoiser(backbone, SCHEDULERS["flow Euler"])
    layers = text_layers(backbone)
    both, seeds = prompts_for(backbone, 2 * PAIRS, tokens=32), list(range(PAIRS))
    source, target = both.part(0, PAIRS), both.part(PAIRS, 2 * PAIRS)

    def drawn(condition: Condition, control: Any = None) -> Tensor:
        with torch.inference_mode():
            return sample_latents(denoiser, condition, seeds, STEPS, 1.0, SHAPES[name], control=control)

    def plain_loop() -> dict[str, Tensor]:
        """As the published code goes: of every layer source, target with its cache, and the patched source."""
        found = {}
        for layer in layers:
            drawn(source)
            cache = TextCache()
            drawn(target, Recorded([layer], cache))
            found[layer.name] = drawn(source, Patched([layer], cache, window=START))
        return found

    def sweep() -> dict[str, Tensor]:
        variants = [Variant(layer.name, (layer,), window=START) for layer in layers]
        prompts = Prompts(source, target, seeds)
        return dict(
            draw_variants(
                denoiser,
                prompts,
                variants,
                steps=STEPS,
                guidance=1.0,
                latent_size=SHAPES[name],
                rows_at_once=64,
            ).variants
        )

    ratios = []
    for _ in range(ROUNDS):
        began = time.process_time()
        slow = plain_loop()
        middle = time.process_time()
        fast = sweep()
        ended = time.process_time()
        ratios.append((middle - began) / (ended - middle))
    for layer_name, latents in slow.items():
        torch.testing.assert_close(fast[layer_name], latents, atol=1e-4, rtol=1e-3)
    ratio = statistics.median(ratios)
    print(
        f"\n{name}, {len(layers)} layers, {PAIRS} pairs, {STEPS} steps: {ratio:.2f} times faster ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    assert ratio >= TIMES_FASTER
