"""What feature distillation adds to the two passes that it cannot do without; paired ratios in one run, CPU time."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from training.backbones import denoise
from training.loop import Loop
from training.measuring.steps import fixed_batch
from training.measuring.synthetic import Case, build_distillation_loop
from training.objectives.feature_distillation import FeatureDistillationObjective
from training.optimization import build_optimizer

pytestmark = pytest.mark.benchmark
ROUNDS, WARM_UP = 7, 2
MOST = 1.1


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


def teacher_of(loop: Loop) -> Any:
    """The frozen teacher of a loop that distils features."""
    assert isinstance(loop.objective, FeatureDistillationObjective)
    return loop.objective.teacher


def floor_step(loop: Loop, count: int) -> Callable[[], None]:
    """The teacher without gradient, the student there and back, clip and fused optimizer, on a batch in memory."""
    teacher, student = copy.deepcopy(teacher_of(loop)), copy.deepcopy(loop.module).train()
    for module in (*teacher.modules(), *student.modules()):
        module._forward_hooks.clear()  # the copies' features are nobody's
    optimizer = build_optimizer(loop.recipe, student)
    batch = fixed_batch(loop, count)
    arguments = (batch.latents, torch.rand(count) * 999, batch.states, batch.mask)

    def step() -> None:
        with torch.no_grad():
            wanted = denoise(teacher, *arguments)
        (denoise(student, *arguments) - wanted).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def paired(first: Callable[[], object], second: Callable[[], object]) -> tuple[list[float], list[float]]:
    """CPU seconds of both by turns, so that both meet the same machine; who begins changes with every round."""
    times: dict[Callable[[], object], list[float]] = {first: [], second: []}
    for number in range(WARM_UP + ROUNDS):
        for call in (first, second) if number % 2 else (second, first):
            begun = time.process_time()
            call()
            times[call].append(time.process_time() - begun)
    return times[first][WARM_UP:], times[second][WARM_UP:]


@pytest.mark.parametrize(
    ("case", "student"),
    [
        (Case("UNet-demo-c48-l2", 8), {"down": [0], "up": [0, 2], "depth": [1, 2]}),
        (Case("PixArt-demo-h160-d7", 8), {"blocks": 4}),
    ],
    ids=lambda value: getattr(value, "backbone", ""),
)
def test_over_the_floor(case: Case, student: Mapping[str, Any], tmp_path: Path) -> None:
    loop = build_distillation_loop(case, student, tmp_path, "cpu")
    ours, floor = paired(loop._step, floor_step(loop, case.batch_size))
    ratios = [o / f for o, f in zip(ours, floor, strict=True)]
    sizes = [sum(p.numel() for p in module.parameters()) / 1e6 for module in (teacher_of(loop), loop.module)]
    print(
        f"\n{case.backbone} ({sizes[0]:.2f}M) to {sizes[1]:.2f}M, batch {case.batch_size}: distillation step"
    )
    print(
        f"  {1e3 * min(ours):.1f} CPU ms, floor {1e3 * min(floor):.1f}, ratio {statistics.median(ratios):.3f}"
    )
    print(f"  (pairs {', '.join(f'{ratio:.3f}' for ratio in ratios)})")
    assert statistics.median(ratios) <= MOST
