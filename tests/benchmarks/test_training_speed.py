"""What the loop adds to the bare computation, and how it stands beside diffusers' training example; ratios in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.backbones import latent_shape
from training.loop.loop import Loop
from training.measuring.steps import ExampleStep, floor_step
from training.measuring.synthetic import Case, build_loop

pytestmark = pytest.mark.benchmark
ROUNDS = 5
THREADS = 2


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(THREADS)


def alternating(first: Callable[[], object], second: Callable[[], object]) -> tuple[list[float], list[float]]:
    """CPU seconds of both by turns, so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (first, second):
        call()
    for _ in range(ROUNDS):
        for call, seconds in zip((first, second), times, strict=True):
            begun = time.process_time()
            call()
            seconds.append(time.process_time() - begun)
    return times


def parts_of_a_step(loop: Loop, count: int) -> dict[str, float]:
    """CPU seconds of what a step does beside the model: least of several tries."""
    draw = loop.order.draw(loop.images_seen, count)

    def noise() -> None:
        draw.normal("noise", latent_shape(loop.module))

    def least(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(ROUNDS):
            begun = time.process_time()
            call()
            seconds.append(time.process_time() - begun)
        return min(seconds)

    parts: dict[str, Callable[[], object]] = {
        "order": lambda: loop.order.draw(loop.images_seen, count),
        "data": lambda: loop.objective.load(draw),
        "noise": noise,
        "seeding": loop._seed_torch,
        "logging": lambda: loop.interval.add(0, {"loss": torch.zeros(())}),
    }
    parts |= {
        f"average {name}": lambda average=average: average.update(count, count)  # type: ignore[misc]
        for name, average in loop.averages.items()
    }
    return {name: least(call) for name, call in parts.items()}


@pytest.mark.parametrize(
    ("case", "limit"),
    [(Case("PixArt-gpu-h256-d8", 32), 1.05), (Case("UNet-gpu-c64", 8), 1.02)],
    ids=lambda value: getattr(value, "backbone", ""),
)
def test_over_the_floor(case: Case, limit: float, tmp_path: Path) -> None:
    loop = build_loop(case, tmp_path, "cpu")
    ours, floor = alternating(loop._step, floor_step(loop, case))
    parameters = sum(p.numel() for p in loop.module.parameters())
    ratio = statistics.median(o / f for o, f in zip(ours, floor, strict=True))
    parts = parts_of_a_step(loop, case.batch_size)
    print(
        f"\n{case.backbone} ({parameters / 1e6:.1f}M), batch {case.batch_size}: step {min(ours):.3f} CPU s, floor"
    )
    print(
        f"  {min(floor):.3f}, ratio {ratio:.3f} (pairs {[round(o / f, 3) for o, f in zip(ours, floor, strict=True)]})"
    )
    for name, seconds in parts.items():
        print(f"  {name:12} {1e3 * seconds:7.2f} ms, {seconds / min(ours):.2%} of a step")
    assert parts["data"] / min(ours) < 0.01
    assert ratio <= limit


def test_beside_the_example_of_diffusers(tmp_path: Path) -> None:
    case = Case("UNet-gpu-c64", 8)
    loop = build_loop(case, tmp_path, "cpu")
    for best in (False, True):
        peer = ExampleStep(loop, case, best=best)
        ours, theirs = alternating(loop._step, peer)
        ratio = statistics.median(t / o for o, t in zip(ours, theirs, strict=True))
        flags = "its best choices" if best else "its defaults"
        print(f"\nours {case.batch_size / min(ours):.2f}, diffusers' example with {flags}")
        print(f"  {case.batch_size / min(theirs):.2f} images/CPU s: {ratio:.3f} times")
        assert ratio >= 0.97  # gaps under 1.3 are ties; below 1 by more than the noise is a loss
