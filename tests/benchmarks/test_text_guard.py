"""What a guard of the layers that write costs, over a plain sampling with guidance; by turns in one run, and by count.

Published schedules are SDXL's 50 and SD3's 28 steps (arXiv 2502.09935, table of settings). The guard's one pass is without guidance
and stops behind the last layer that writes.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import torch

from tests.training.pruning.stand_ins import SCHEDULERS, FakeDenoiser, prompts_for
from training.backbones import build_backbone
from training.localization import text_layers
from training.localization.guard import guard
from training.sampling.denoising_loop import sample_latents

pytestmark = pytest.mark.benchmark
GUIDANCE, MOST = 5.0, 1.02
# Size of latents, steps, the last layer that writes as a share of all (SD3's is 10 of 24, SDXL's 57 of 70), pictures, rounds.
CASES = {
    "SD3-gpu-h512-d12": ((32, 32), 28, 10 / 24, 1, 5),
    "SD3-writer": ((8, 16), 28, 3 / 6, 4, 9),
    "UNet-gpu-c64": ((32, 32), 50, 57 / 70, 1, 5),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_guard_over_a_plain_sampling(name: str) -> None:
    torch.set_num_threads(1)
    size, steps, share, pictures, rounds = CASES[name]
    backbone = build_backbone(name, 0).eval().requires_grad_(False)
    denoiser = FakeDenoiser(backbone, SCHEDULERS["flow Euler"])
    layers = text_layers(backbone)
    chosen = [layers[int(share * len(layers))]]
    both = prompts_for(backbone, 2 * pictures, tokens=32)
    prompts, harmless = both.part(0, pictures), both.part(pictures, 2 * pictures)

    def seconds(control: Any) -> float:
        began = time.process_time()
        with torch.inference_mode():
            sample_latents(denoiser, prompts, list(range(pictures)), steps, GUIDANCE, size, control=control)
        return time.process_time() - began

    ratios = []
    for _ in range(rounds):
        plain = seconds(None)
        ratios.append(seconds(guard(backbone, prompts, harmless, chosen)) / plain)
    ratio = statistics.median(ratios)
    counted = 1 + share / (2 * steps) if layers[0].is_joint else 1.0
    print(
        f"\n{name}, {steps} steps, layer {int(share * len(layers))} of {len(layers)}: {ratio:.3f} of a plain sampling "
        f"({min(ratios):.3f} to {max(ratios):.3f}), {counted:.3f} by count"
    )
    assert counted <= MOST
    assert ratio <= MOST + 0.01  # of noise
