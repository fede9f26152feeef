"""Plans of a branch beside its frozen base: memory against real steps, work against both passes counted on a real model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.training.layout.loops import layout_loop
from tests.training.planning.measured import kept_bytes, step_peak, unseen_bytes
from training.backbones import build_variant, example_inputs, freeze_base, variant, with_layout
from training.errors import FoundryError
from training.measuring.synthetic import Case
from training.planning.compute import Rate, branch_compute
from training.planning.gpu_memory import Shares, memory_of, sizes, sizes_of, state_bytes
from training.planning.gpus import GPUS
from training.planning.simulation import Setting, simulate
from training.planning.training_plan import Machine, branch_of, plan_recipe, remedies
from training.recipes.adapters import OptimizerOptions
from training.recipes.files import load_recipe
from training.recipes.layout import LayoutOptions
from training.recipes.specification import Recipe


def options(kind: Any = "siam", tokens: int = 1, **more: Any) -> LayoutOptions:
    return LayoutOptions(kind=kind, max_boxes=6, rank=8, phrase_dim=384, tokens_per_entity=tokens, **more)


def recipe_of(**changes: Any) -> Recipe:
    settings = {
        "name": "planned", "objective": "layout", "parent": "base", "backbone": "SD3-tiny", "images_total": 6400,
        "learning_rate": 1e-3, "batch_size": 64, "precision": "bf16", "base_format": "bf16",
    }  # fmt: skip
    return load_recipe({**settings, **changes})


@pytest.mark.parametrize(
    ("case", "told", "base_format", "checkpointing", "passes", "optimizer"),
    [
        (Case("SD3-demo-h128-d4", 8, "fp32", ema=True), options(), "fp32", False, 1, "adamw"),
        (Case("SD3-demo-h128-d4", 16, "bf16", ema=False), options(), "bf16", True, 1, "adamw8bit"),
        (Case("SD3-demo-h128-d4", 8, "bf16", ema=False), options("siam_lora"), "fp32", False, 1, "adamw"),
        (Case("FLUX-demo-h64-d2-s4", 8, "bf16", ema=False), options(tokens=3), "bf16", False, 2, "adamw"),
    ],
    ids=lambda value: getattr(value, "backbone", getattr(value, "kind", str(value))),
)
def test_planned_memory_is_within_a_tenth_of_a_measured_step(
    case: Case,
    told: LayoutOptions,
    base_format: Any,
    checkpointing: bool,
    passes: int,
    optimizer: Any,
    tmp_path: Path,
) -> None:
    recipe = {"base_format": base_format, "micro_batches": passes, "optimizer": {"name": optimizer}}
    branch = told.model_dump(include={"kind", "max_boxes", "rank"})
    loop = layout_loop(
        case,
        branch,
        tmp_path,
        tokens_per_entity=told.tokens_per_entity,
        recipe=recipe,
        execution={"activation_checkpointing": checkpointing},
    )
    images = case.batch_size // passes
    step = step_peak(loop) + unseen_bytes(loop, images)
    kept = kept_bytes(loop)
    setting = Setting(
        case.backbone, case.precision, checkpointing, "cpu", branch=told, base_format=base_format
    )
    planned = memory_of(
        setting, Shares(1, "ddp", images, passes), int(case.ema), OptimizerOptions(name=optimizer)
    )
    assert planned.weights + planned.optimizer + planned.averages == pytest.approx(kept, rel=0.02)
    coming = planned.gradients + planned.activations + planned.autocast_copies
    assert coming == pytest.approx(step, rel=0.1)


KINDS = [
    *(("SD3-tiny", kind) for kind in ("siam", "siam_lora", "adapter", "joint", "gated")),
    ("FLUX-tiny", "siam"),
]


@pytest.mark.parametrize(("backbone", "kind"), KINDS)
@pytest.mark.parametrize("aligned", [False, True])
def test_work_is_that_of_both_passes_of_a_real_model(backbone: str, kind: str, aligned: bool) -> None:
    told = options(kind, 2 if backbone.startswith("FLUX") else 1, box_aligned=aligned)
    model = build_variant(with_layout(variant(backbone), **told.model_dump())).train()
    freeze_base(model)
    inputs = example_inputs(model, 3, None, 77)
    forward, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH):
        with forward:
            output = inputs.call(model)
        with backward:
            output.square().mean().backward()
    found = simulate(Setting(backbone, "fp32", branch=told))
    assert found.forward_macs == pytest.approx(forward.get_total_flops() / 2 / 3, rel=1e-6)
    # A fused kernel gives the gradients of queries, keys and values alike, also where a frozen one needs none.
    assert found.backward_macs == pytest.approx(backward.get_total_flops() / 2 / 3, rel=0.01)


def test_a_frozen_base_goes_back_by_one_product_and_is_computed_again_where_asked() -> None:
    setting = Setting("SD3-tiny", "fp32", branch=options())
    plain, again = (simulate(replace(setting, checkpointing=on)) for on in (False, True))
    full = simulate(Setting("SD3-tiny", "fp32"))
    assert full.backward_macs == pytest.approx(2 * full.forward_macs, rel=0.15)
    assert plain.backward_macs / plain.forward_macs < 0.8 * full.backward_macs / full.forward_macs
    assert again.forward_macs == plain.forward_macs
    assert plain.forward_macs * 0.6 < again.backward_macs - plain.backward_macs < plain.forward_macs


def test_the_base_is_kept_as_its_weights_alone() -> None:
    told = options()
    size, base = sizes_of(Setting("SD3-demo-h128-d4", branch=told)), sizes("SD3-demo-h128-d4")
    assert size.parameters - size.trained == base.parameters
    assert state_bytes(size, OptimizerOptions()) == 8 * size.trained
    plain, half = (
        memory_of(Setting("SD3-demo-h128-d4", branch=told, base_format=form), Shares(), 2)
        for form in ("fp32", "bf16")
    )
    assert plain.weights == 4 * size.parameters
    assert half.weights == pytest.approx(4 * size.trained + 2 * base.parameters, rel=0.01)
    assert plain.averages == 2 * 4 * size.trained
    whole, shard = (
        memory_of(Setting("SD3-demo-h128-d4", branch=told), shares, 0)
        for shares in (Shares(2, "ddp"), Shares(2, "fsdp"))
    )
    assert shard.weights == whole.weights / 2
    assert shard.gradients == 4 * size.trained / 2


def test_time_counts_the_passes_without_a_layout_and_the_work_done_twice() -> None:
    setting = Setting("SD3-tiny", "bf16", branch=options())
    rate = Rate(GPUS["a100"], 2, 0.5, "bf16", checkpointing=False)
    plain = branch_compute(setting, 1000, rate)
    more = branch_compute(setting, 1000, rate, compared=0.25)
    line = simulate(setting)
    assert plain.training_flops == pytest.approx(2000 * (line.forward_macs + line.backward_macs))
    assert more.training_flops - plain.training_flops == pytest.approx(500 * line.forward_macs)
    again = branch_compute(
        replace(setting, checkpointing=True), 1000, replace(rate, checkpointing=True), compared=0
    )
    assert again.training_flops == plain.training_flops
    assert 1.2 < again.gpu_hours / plain.gpu_hours < 1.5
    assert plain.images_per_second * plain.hours * 3600 == pytest.approx(1000)
    assert plain.macs < plain.macs_with_attention


def test_phrases_are_those_of_the_family() -> None:
    sd3, flux = (branch_of(recipe_of(backbone=name)) for name in ("SD3-medium", "FLUX.1-dev"))
    assert sd3 is not None
    assert flux is not None
    assert (sd3.phrase_dim, sd3.tokens_per_entity) == (2048, 1)
    assert (flux.phrase_dim, flux.tokens_per_entity) == (4096, 30)


def test_the_machine_may_say_another_optimiser_size_and_text() -> None:
    recipe = recipe_of()
    plain, small = (plan_recipe(recipe, Machine(optimizer=name)) for name in (None, "adamw8bit"))
    assert small.memory.optimizer == pytest.approx(plain.memory.optimizer / 4, rel=0.02)
    large = plan_recipe(recipe, Machine(latent_size=16, tokens=100))
    assert large.compute.macs > 2 * plain.compute.macs
    assert large.memory.activations > 2 * plain.memory.activations


def test_what_does_not_fit_may_fit_with_8_bits() -> None:
    machine = Machine(gpu="a100-40", latent_size=64)
    plan = plan_recipe(recipe_of(batch_size=65536, images_total=65536), machine)
    assert not plan.fits
    ways = [way.change for way in remedies(plan)]
    assert any("--optimizer adamw8bit" in way for way in ways)
    assert any("--checkpointing" in way for way in ways)


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        ({"optimizer": "sgd"}, "allowed are adamw, adamw8bit, muon"),
        ({"optimizer": "adamw8bit", "strategy": "fsdp", "gpus": 2}, "cannot share them under fsdp"),
        ({"latent_size": 0}, "--latent-size is 0"),
        ({"tokens": -1}, "--tokens is -1"),
    ],
)
def test_impossible_machines_are_refused(machine: dict[str, Any], says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        plan_recipe(recipe_of(), Machine(**machine))
