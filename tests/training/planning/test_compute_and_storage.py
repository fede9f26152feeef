"""Compute and storage against the scalability paper's own figures."""

from __future__ import annotations

import pytest

from training.backbones import macs_per_image
from training.errors import FoundryError
from training.planning.compute import Rate, training_flops
from training.planning.gpus import GPUS
from training.planning.training_plan import Machine, plan_recipe, remedies, shares_of
from training.recipes.files import load_recipe
from training.recipes.specification import Recipe


def _recipe(backbone: str = "PixArt-tiny", **changes: object) -> Recipe:
    settings = {"name": "planned", "backbone": backbone, "images_total": 6400, "learning_rate": 1e-3}
    return load_recipe({**settings, "batch_size": 64, "precision": "bf16", **changes})


@pytest.mark.parametrize(
    ("backbone", "steps", "gflops", "rounding"),
    [
        ("SDXL", 600_000, 1.46e12, 5e9),
        ("SDXL-TD4_4", 600_000, 1.05e12, 5e9),
        ("SDXL-TD4_4", 850_000, 1.49e12, 5e9),
        ("SD2", 600_000, 6.4e11, 5e9),
    ],
)
def test_training_compute_is_the_papers(backbone: str, steps: int, gflops: float, rounding: float) -> None:
    flops = training_flops(macs_per_image(backbone, 77), 2048 * steps)
    assert flops / 1e9 == pytest.approx(gflops, abs=rounding)


def test_time_follows_peak_utilisation_and_recomputation() -> None:
    gpu = GPUS["a100"]
    plain = Rate(gpu, 8, 0.5, "bf16", checkpointing=False)
    assert plain.gpu_hours(312e12 * 0.5 * 3600) == pytest.approx(1)
    assert Rate(gpu, 8, 0.5, "bf16", checkpointing=True).gpu_hours(312e12 * 0.5 * 3600) == pytest.approx(
        4 / 3
    )
    assert Rate(gpu, 8, 0.5, "fp32", checkpointing=False).flops_per_gpu == 19.5e12 * 0.5
    one, eight = (plan_recipe(_recipe(), Machine(gpus=gpus, price=2.0)) for gpus in (1, 8))
    assert eight.compute.gpu_hours == pytest.approx(one.compute.gpu_hours)
    assert eight.compute.hours == pytest.approx(one.compute.hours / 8)
    assert one.cost == pytest.approx(2 * one.compute.gpu_hours)
    assert eight.compute.images_per_second * eight.compute.hours * 3600 == pytest.approx(6400)


def test_what_does_not_fit_is_told_with_changes_that_were_checked() -> None:
    recipe = _recipe("PixArt-demo-h160-d7", batch_size=65536, images_total=65536)
    plan = plan_recipe(recipe, Machine(gpus=2, gpu="a100-40"))
    assert not plan.fits
    ways = {remedy.change: remedy for remedy in remedies(plan)}
    assert any(remedy.fits for remedy in ways.values())
    change, way = next((change, way) for change, way in ways.items() if way.fits and "batch" in change)
    per_pass = int(change.split("--batch-per-gpu ")[1].split()[0])
    again = plan_recipe(
        recipe,
        Machine(
            gpus=2,
            gpu="a100-40",
            batch_per_gpu=per_pass,
            checkpointing="--checkpointing" in change,
            strategy="fsdp" if "fsdp" in change else "ddp",
        ),
    )
    assert again.fits
    assert again.memory.total == way.total_bytes


def test_a_batch_is_spread_over_gpus_and_passes() -> None:
    shares = shares_of(_recipe(), Machine(gpus=4, batch_per_gpu=2))
    assert (shares.images_per_pass, shares.passes, shares.batch_size) == (2, 8, 64)
    assert shares_of(_recipe(micro_batches=4), Machine(gpus=2)).images_per_pass == 8


def test_storage_counts_captions_checkpoints_and_averages() -> None:
    recipe = _recipe(ema_half_life_images=100, power_ema_sigma_rels=[0.05, 0.1], power_ema_every_images=3200)
    plan = plan_recipe(recipe, Machine(images=1000))
    found, whole = plan.storage, 4 * plan.size.parameters
    assert found is not None
    assert found.captions == 6
    assert found.latents == 1000 * 16 * 8 * 8 * 2
    assert found.checkpoints == 2 * (3 + 3) * whole
    assert found.averages == 2 * 2 * whole
    assert found.exports == 2 * whole
    assert plan.memory.averages == 3 * whole
    assert plan_recipe(recipe, Machine()).storage is None


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        ({"gpus": 0}, "give 1 or more"),
        ({"strategy": "fsdp"}, "with one GPU"),
        ({"strategy": "zero"}, "allowed are ddp, fsdp"),
        ({"precision": "fp8"}, "allowed are fp32, bf16, fp16"),
        ({"mfu": 0.0}, "above 0 and at most 1"),
        ({"mfu": 35.0}, "above 0 and at most 1"),
        ({"price": -1.0}, "0 or more"),
        ({"images": 0}, "images of the data set"),
        ({"gpu": "h10"}, "did you mean 'h100'"),
        ({"gpus": 3}, "no multiple of --gpus 3"),
        ({"gpus": 2, "batch_per_gpu": 5}, "as with 4"),
        ({"batch_per_gpu": 0}, "as with 1"),
    ],
)
def test_impossible_machines_are_refused(machine: dict[str, object], says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        plan_recipe(_recipe(), Machine(**machine))  # type: ignore[arg-type]


def test_other_objectives_are_not_planned() -> None:
    judge = load_recipe(
        {"name": "judge", "objective": "contrastive", "images_total": 8, "learning_rate": 1e-3}
    )
    with pytest.raises(FoundryError, match="plans are made for 'diffusion'"):
        plan_recipe(judge, Machine())
