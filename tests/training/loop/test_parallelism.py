"""Several processes train as one does, to rounding, and a run may change their number and strategy on the way."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import RunMaker
from tests.training.teams import fork_team, start_team
from training.errors import FoundryError
from training.loop.processes import Span, Team
from training.run import run
from training.run_folder import RunFolder

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
RAW = "raw/diffusion_pytorch_model.safetensors"
# Batches of 10 in two parts; the last has one image, so that one of two processes has none.
RECIPE: dict[str, Any] = {
    "images_total": 31,
    "batch_size": 10,
    "micro_batches": 2,
    "ema_half_life_images": 20,
    "clip_norm": 0.5,
    "power_ema_sigma_rels": [0.1],
    "power_ema_every_images": 20,
}
EXECUTION: dict[str, Any] = {"checkpoint_every_images": 10, "keep_checkpoints": 9, "log_every_images": 10}
ALL_ELSE: dict[str, Any] = {
    "snapshot_images": [20],
    "sample_every_images": 20,
    "sample_count": 2,
    "sample_steps": 2,
}


def branch(runs: RunMaker, source: RunFolder, root: str, images_seen: int, **execution: Any) -> RunFolder:
    """A copy of a finished run as it was when so many images had been seen."""
    folder = RunFolder(runs.root / root / source.path.name)
    shutil.copytree(source.path, folder.path)
    folder.done_path.unlink()
    shutil.rmtree(folder.model)
    for checkpoint in folder.checkpoints.glob("[0-9]*"):
        if int(checkpoint.name) > images_seen:
            shutil.rmtree(checkpoint)
    return runs.prepare(root, {**EXECUTION, **execution}, **RECIPE)


def assert_same(found: RunFolder, expected: RunFolder) -> None:
    """Equal curves and weights, to rounding."""
    curves = [folder.read_metrics().to_pylist() for folder in (found, expected)]
    assert [row["images_seen"] for row in curves[0]] == [10, 20, 30, 31]
    for row, wanted in zip(*curves, strict=True):
        counted = [name for name in wanted if name.startswith("count_")]
        assert {name: row[name] for name in counted} == {name: wanted[name] for name in counted}
        for name in ("loss", "grad_norm", "learning_rate"):
            assert row[name] == pytest.approx(wanted[name], rel=2e-5)
    for part in (WEIGHTS, RAW):
        tensors = load_file(found.model / part)
        for name, value in load_file(expected.model / part).items():
            torch.testing.assert_close(tensors[name], value, atol=2e-4, rtol=1e-3)


def test_two_processes_train_as_one_and_a_run_may_change_hands(runs: RunMaker) -> None:
    one = runs.prepare("one", EXECUTION, **RECIPE)
    run(one.path)
    copies = runs.prepare("copies", {**EXECUTION, "world_size": 2}, **RECIPE)
    shards = runs.prepare("shards", {**EXECUTION, **ALL_ELSE, "strategy": "fsdp"}, **RECIPE)
    one_then_copies = branch(runs, one, "one-copies", 10)
    one_then_shards = branch(runs, one, "one-shards", 10, strategy="fsdp")
    unet = {**RECIPE, "backbone": "UNet-tiny", "images_total": 20}
    unets = [
        runs.prepare(f"unet-{strategy}", {"strategy": strategy, "channels_last": True}, **unet)
        for strategy in ("fsdp", "ddp")
    ]
    start_team(copies, shards, one_then_copies, one_then_shards, unets[0])
    for folder in (copies, shards, one_then_copies, one_then_shards):
        assert_same(folder, one)
    assert len(list((copies.checkpoints / f"{20:015d}").glob("model-*-of-00002.safetensors"))) == 2

    run(unets[1].path)  # alone, so that it is no team
    # Biases before a norm have gradients of rounding alone, which Adam makes large: the losses tell.
    curves = [folder.read_metrics().to_pylist() for folder in unets]
    assert [row["loss"] for row in curves[0]] == pytest.approx([row["loss"] for row in curves[1]], rel=1e-4)

    for source, root in ((one_then_copies, "one-copies-one"), (shards, "shards-one")):
        folder = branch(runs, source, root, 20)
        run(folder.path)
        assert_same(folder, one)

    assert (shards.samples / f"{20:015d}.png").is_file()
    snapshot = load_file(shards.snapshots / f"{20:015d}" / "diffusion_pytorch_model.safetensors")
    assert snapshot.keys() == load_file(one.model / WEIGHTS).keys()
    kept = f"{20:015d}.power_ema_0.1.safetensors"
    expected = load_file(one.power_averages / kept)
    for name, value in load_file(shards.power_averages / kept).items():
        torch.testing.assert_close(value, expected[name], atol=2e-4, rtol=1e-3)


def test_a_student_is_taught_by_two_processes_as_by_one(runs: RunMaker) -> None:
    students: dict[str, dict[str, Any]] = {
        "SD3-tiny": {"blocks": 1},
        "SDXL-tiny": {"down": [0], "up": [0, 2], "depth": [1, 2]},
    }
    teams: list[RunFolder] = []
    alone: list[RunFolder] = []
    for backbone, kept in students.items():
        runs.parent = None
        teacher = runs.prepare("teachers", name="teacher", backbone=backbone, images_total=8)
        run(teacher.path)
        runs.parent = teacher.model
        recipe = {
            **RECIPE,
            "name": "student",
            "objective": "feature_distillation",
            "parent": "teacher",
            "backbone": None,
            "feature_distillation": {"student": kept, "feature_memory": "host"},
        }
        alone.append(runs.prepare(f"{backbone}-one", EXECUTION, **recipe))
        run(alone[-1].path)
        for strategy in ("ddp", "fsdp"):
            execution = {**EXECUTION, "world_size": 2, "strategy": strategy}
            teams.append(runs.prepare(f"{backbone}-{strategy}", execution, **recipe))
    fork_team(*teams)
    for folder in teams[:2]:
        assert_same(folder, alone[0])
    for folder in teams[2:]:  # a UNet's biases before a norm again: its losses tell, each of the three
        curves = [made.read_metrics().to_pylist() for made in (folder, alone[1])]
        for name in ("loss_task", "loss_output", "loss_feature", "loss"):
            assert [row[name] for row in curves[0]] == pytest.approx(
                [row[name] for row in curves[1]], rel=1e-3
            )


@pytest.mark.parametrize("count", [1, 2, 5, 7, 16])
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_every_image_is_passed_once_and_all_make_as_many_passes(count: int, micro_batches: int) -> None:
    for size in (1, 2, 3, 5):
        spans = [Team(rank, size).spans(count, micro_batches) for rank in range(size)]
        assert len({len(own) for own in spans}) == 1
        passed = [
            image for own in spans for span in own if span.images for image in range(span.start, span.stop)
        ]
        assert passed == list(range(count))
        assert all(span.stop - span.start == (span.images or 1) for own in spans for span in own)
    assert Team().spans(10, 2) == [Span(0, 5, 5), Span(5, 10, 5)]


def test_what_all_hold_is_written_once_and_evenly() -> None:
    sizes = [100, 1, 1, 50, 50, 7]
    owned = [Team(rank, 3).owned(sizes) for rank in range(3)]
    assert sorted(index for own in owned for index in own) == list(range(len(sizes)))
    assert max(sum(sizes[index] for index in own) for own in owned) == 100


def test_more_processes_than_came_are_missed(runs: RunMaker) -> None:
    with pytest.raises(FoundryError, match=r"'world_size' is 3, but 1 process.*nproc-per-node 3"):
        run(runs.prepare(execution={"world_size": 3}).path)
