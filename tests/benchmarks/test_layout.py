"""What a layout branch costs beside its base, in a step of sampling and in one of training; paired ratios in one run, CPU time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.layout.loops import floor_step, layout_loop
from training.backbones import (
    Inputs,
    LayerCost,
    build_on_meta,
    build_variant,
    example_inputs,
    layer_costs,
    variant,
    with_layout,
)
from training.diffusion.noise_process import Noising
from training.measuring.synthetic import Case
from training.model_folders.denoiser import Denoiser
from training.sampling.control import Control
from training.sampling.denoising_loop import sample_latents
from training.sampling.layout import layout_window
from training.sampling.layout import with_layout as told_layout

pytestmark = pytest.mark.benchmark
ROUNDS, WARM_UP = 5, 1
STEPS = 10
ENTITIES, WINDOWS = (0, 4, 10), (0.3, 1.0)
OVER_THE_FLOOR = 1.05
PUBLISHED = {"SD3-medium": {"phrase_dim": 2048}, "FLUX.1-dev": {"phrase_dim": 4096, "tokens_per_entity": 30}}
MOST_TIMES_THE_BASE = {
    "SD3-medium": 1.7,
    "FLUX.1-dev": 2.7,
}  # FLUX at 512 px, where text and layout weigh most
TIMED = "SD3-gpu-h512-d12"


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


def macs_of(name: str, entities: int, **options: Any) -> int:
    """Multiply-adds of a forward pass of one picture, attention's own products with them, told so many entities.

    Padding counts like what it stands for, so a model is asked that takes just as many; at 0 nothing is told.
    """
    told = with_layout(variant(name), kind="siam", max_boxes=max(entities, 1), **options)
    model = build_on_meta(told)
    inputs = example_inputs(model)
    if not entities:
        inputs = Inputs(inputs.noisy, inputs.timestep, replace(inputs.condition, layout=None))
    total = sum(layer_costs(model, inputs).values(), LayerCost())
    return total.macs + total.product_macs


def share_of_steps(window: float) -> float:
    """Of the steps of a sampling, those that are told the layout."""
    return int(window * STEPS) / STEPS


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_multiply_adds_over_the_base(name: str) -> None:
    options = PUBLISHED[name]
    base = macs_of(name, 0, **options)
    print(f"\n{name}: base {base / 1e9:,.0f} GMACs a step")
    found = {}
    for entities in ENTITIES:
        for window in WINDOWS:
            more = (macs_of(name, entities, **options) - base) * share_of_steps(window)
            found[entities, window] = (base + more) / base
            print(f"  {entities:2} entities, window {window:g}: {found[entities, window]:.3f} times the base")
    assert found[0, 1.0] == 1
    assert 1 < found[4, 0.3] <= found[10, 0.3] < found[10, 1.0] < MOST_TIMES_THE_BASE[name]


class Contest:
    """Samplings of one picture by a model with a branch, told so many entities, and by its base alone."""

    def __init__(self, entities: int) -> None:
        torch.manual_seed(0)
        told = with_layout(variant(TIMED), kind="siam", max_boxes=max(entities, 1), phrase_dim=384)
        self.model = build_variant(told).eval()
        self.condition = example_inputs(self.model).condition
        self.entities = entities

    def sampling(self, window: float | None) -> Callable[[], object]:
        """Ten steps; ``window`` None: nothing is told."""
        denoiser = Denoiser(self.model, None, Noising("flow"))
        bare = replace(self.condition, layout=None)
        told, control = bare, None
        if window is not None and self.entities and self.condition.layout is not None:
            told, control = told_layout(bare, self.condition.layout), layout_window(window)
        return lambda: self._drawn(denoiser, told, control)

    @torch.inference_mode()
    def _drawn(self, denoiser: Denoiser, told: Any, control: Control | None) -> object:
        return sample_latents(denoiser, told, [0], STEPS, 1.0, control=control)


@pytest.mark.parametrize("entities", ENTITIES)
def test_time_over_the_base(entities: int) -> None:
    contest = Contest(entities)
    base = contest.sampling(None)
    print(f"\n{TIMED}, {entities} entities:")
    ratios = {}
    for window in WINDOWS:
        ours, alone = paired(contest.sampling(window), base)
        ratios[window] = statistics.median(o / a for o, a in zip(ours, alone, strict=True))
        print(
            f"  window {window:g}: {1e3 * min(ours) / STEPS:.1f} CPU ms a step, base {1e3 * min(alone) / STEPS:.1f},"
        )
        print(f"  ratio {ratios[window]:.3f}")
    assert ratios[0.3] <= ratios[1.0] * 1.05
    if not entities:
        assert ratios[1.0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("kind", ["siam", "siam_lora"])
def test_a_training_step_over_its_floor(kind: str, tmp_path: Path) -> None:
    case = Case(TIMED, 8, ema=False)
    loop = layout_loop(case, {"kind": kind, "rank": 64, "max_boxes": 10}, tmp_path)
    ours, floor = paired(loop._step, floor_step(loop, case))
    ratios = [o / f for o, f in zip(ours, floor, strict=True)]
    trained = sum(parameter.numel() for parameter in loop.parameters)
    print(
        f"\n{TIMED} with {kind} of {trained / 1e6:.1f}M, batch {case.batch_size}: step {1e3 * min(ours):.0f} CPU ms,"
    )
    print(f"  floor {1e3 * min(floor):.0f}, ratio {statistics.median(ratios):.3f}")
    print(f"  (pairs {', '.join(f'{ratio:.3f}' for ratio in ratios)})")
    assert statistics.median(ratios) <= OVER_THE_FLOOR


def paired(first: Callable[[], object], second: Callable[[], object]) -> tuple[list[float], list[float]]:
    """CPU seconds of both by turns, so that both meet the same machine; who begins changes with every round."""
    times: dict[Callable[[], object], list[float]] = {first: [], second: []}
    for number in range(WARM_UP + ROUNDS):
        for call in (first, second) if number % 2 else (second, first):
            begun = time.process_time()
            call()
            times[call].append(time.process_time() - begun)
    return times[first][WARM_UP:], times[second][WARM_UP:]
