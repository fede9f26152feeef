"""What feature distillation adds to the two passes that it cannot do without; paired ratios in one run, CPU time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from training.measuring.distilling import distillation_loop, floor_step
from training.measuring.models import parameters_of
from training.measuring.synthetic import Case

pytestmark = pytest.mark.benchmark
ROUNDS, WARM_UP = 7, 2
MOST = 1.1


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


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
        (Case("UNet-demo-c48-l2", 8), {"down": [0], "up": [0, 2], "depth": [1, 1, 2]}),
        (Case("PixArt-demo-h160-d7", 8), {"blocks": 4}),
    ],
    ids=lambda value: getattr(value, "backbone", ""),
)
def test_over_the_floor(case: Case, student: Mapping[str, Any], tmp_path: Path) -> None:
    loop = distillation_loop(case, student, tmp_path, "cpu")
    ours, floor = paired(loop._step, floor_step(loop, case, copies=True))
    ratios = [o / f for o, f in zip(ours, floor, strict=True)]
    teacher: Any = loop.objective.teacher  # type: ignore[attr-defined]
    sizes = [parameters_of(model) / 1e6 for model in (teacher, loop.module)]
    print(
        f"\n{case.backbone} ({sizes[0]:.2f}M) to {sizes[1]:.2f}M, batch {case.batch_size}: distillation step"
    )
    print(
        f"  {1e3 * min(ours):.1f} CPU ms, floor {1e3 * min(floor):.1f}, ratio {statistics.median(ratios):.3f}"
    )
    print(f"  (pairs {', '.join(f'{ratio:.3f}' for ratio in ratios)})")
    assert statistics.median(ratios) <= MOST
