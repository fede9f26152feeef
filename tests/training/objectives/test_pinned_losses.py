"""A few steps of every objective end where they always did: the same draws, the same loss, the same weights.

The numbers were taken when the objectives did not share their noise, levels and forward passes. They hold to 1e-5,
since the last bits are the machine's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file

from tests.training.conftest import RunMaker
from tests.training.objectives.test_layout import both as layout_run
from tests.training.objectives.test_layout import layouts_of
from training.digests import folder_digest
from training.layout.shards import write_layout_shards
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.objectives import OBJECTIVES
from training.recipes.specification import TrainingSpecification
from training.run import run
from training.run_folder import RunFolder, prepare
from training.shards import write_image_shards
from training.text_encoders import MiniLMEncoder

STEPS: dict[str, Any] = {"images_total": 12, "batch_size": 4}

OF_LATENTS: dict[str, dict[str, Any]] = {
    "diffusion": {"backbone": "PixArt-tiny"},
    "diffusion, epsilon, weighted": {
        "backbone": "UNet-tiny",
        "diffusion": {"prediction": "epsilon", "time_sampling": "uniform", "min_snr_gamma": 5.0},
    },
    "diffusion, v, pooled": {
        "backbone": "SD3-tiny",
        "diffusion": {"prediction": "v", "zero_terminal_snr": True, "caption_dropout": 0.5},
    },
    "diffusion, clean, velocity": {
        "backbone": "PixArt-tiny",
        "diffusion": {"prediction": "clean", "time_sampling": "uniform", "velocity_floor": 0.1},
    },
    "step_distillation": {
        "objective": "step_distillation",
        "step_distillation": {"intervals": 4, "guidance_max": 6.0, "huber": 0.1},
    },
    "feature_distillation": {
        "objective": "feature_distillation",
        "feature_distillation": {"student": {"blocks": [0]}, "time_sampling": "logit_normal"},
    },
}

OF_PICTURES: dict[str, dict[str, Any]] = {
    "autoencoder": {
        "autoencoder": {"block_channels": (8, 8), "kl_weight": 0.1, "squared_weight": 1.0, "edge_weight": 1.0}
    },
    "contrastive": {
        "contrastive": {
            "embed_dim": 16,
            "image_width": 8,
            "image_head_width": 8,
            "text_width": 16,
            "text_heads": 2,
        },
        "batch_size": 6,
    },
}

ENDS: dict[str, tuple[list[float], float]] = {
    "diffusion": ([2.5195863246917725, 2.318214178085327, 2.3234004974365234], 0.05901528599855278),
    "diffusion, epsilon, weighted": (
        [1.1166572570800781, 0.939012348651886, 0.633463442325592],
        0.08049651414477219,
    ),
    "diffusion, v, pooled": (
        [1.4144645929336548, 1.3333747386932373, 1.2991318702697754],
        0.3364665893010431,
    ),
    "diffusion, clean, velocity": (
        [2.6678645610809326, 35.489383697509766, 67.93343353271484],
        0.05900075095955452,
    ),
    "step_distillation": (
        [0.09162960201501846, 0.08788096159696579, 0.08184301853179932],
        0.058999160028829725,
    ),
    "feature_distillation": (
        [1.2540525197982788, 1.240851879119873, 1.2534693479537964],
        0.05903337562052156,
    ),
    "layout": ([1.2620912790298462, 1.2861965894699097, 1.3289543390274048], 0.28854012030587056),
    "autoencoder": ([1.952372431755066, 1.819356918334961, 1.782097578048706], 0.07346442612352086),
    "contrastive": ([3.5874512990315757, 3.6715990702311196], 0.05412935046868366),
}
"""Losses of the steps, and the mean size of the trained weights."""


def end_of(folder: RunFolder, weights: str) -> tuple[list[float], float]:
    """What a run ended with: its losses, and the mean absolute weight."""
    run(folder.path)
    losses = folder.read_metrics()["loss"].to_pylist()
    values = np.concatenate(
        [tensor.flatten().double().numpy() for tensor in load_file(folder.model / weights).values()]
    )
    return losses, float(np.abs(values).mean())


@pytest.mark.parametrize("case", list(OF_LATENTS))
def test_steps_over_latents(runs: RunMaker, case: str) -> None:
    recipe = OF_LATENTS[case]
    execution = {"log_every_images": 4}
    if "backbone" not in recipe:
        teacher = runs.prepare("parents", name="teacher", images_total=8, diffusion={"prediction": "clean"})
        run(teacher.path)
        runs.parent = teacher.model
        recipe = {"parent": "teacher", "backbone": None, **recipe}
    folder = runs.prepare(execution=execution, **{**STEPS, **recipe})
    part = "unet" if recipe["backbone"] == "UNet-tiny" else "transformer"
    same_end(case, end_of(folder, f"{part}/diffusion_pytorch_model.safetensors"))


@pytest.mark.parametrize("case", list(OF_PICTURES))
def test_steps_over_pictures(tmp_path: Path, case: str) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    samples = pa.table({"sample_id": [str(index) for index in range(12)], "split": ["train"] * 12})
    captions = [[f"number {index}", "a picture"] for index in range(12)]
    write_image_shards(tmp_path / "data", samples, images, captions)
    recipe = {"name": case, "objective": case, "learning_rate": 1e-3, **STEPS, **OF_PICTURES[case]}
    spec = TrainingSpecification(
        recipe=load_recipe(recipe), inputs={"dataset": folder_digest(tmp_path / "data")}
    )
    execution = Execution(device="cpu", log_every_images=4, input_paths={"dataset": str(tmp_path / "data")})
    weights = "diffusion_pytorch_model" if case == "autoencoder" else "open_clip_model"
    same_end(case, end_of(prepare(tmp_path / "runs", spec, execution), f"{weights}.safetensors"))


def test_steps_of_a_layout_branch(runs: RunMaker, tmp_path: Path) -> None:
    base = runs.prepare(
        "parents", name="base", backbone="SD3-tiny", images_total=8, diffusion={"prediction": "clean"}
    )
    run(base.path)
    runs.parent = base.model
    write_layout_shards(
        tmp_path / "layouts", layouts_of(runs.shards), MiniLMEncoder(), folder_digest(runs.shards)
    )
    spec, execution = layout_run(runs, tmp_path / "layouts", learning_rate=1e-3, **STEPS)
    often = execution.model_copy(update={"log_every_images": 4})
    same_end(
        "layout",
        end_of(prepare(tmp_path / "runs", spec, often), "transformer/diffusion_pytorch_model.safetensors"),
    )


def same_end(case: str, found: tuple[list[float], float]) -> None:
    """Both numbers of :data:`ENDS`."""
    losses, size = ENDS[case]
    assert found[0] == pytest.approx(losses, rel=1e-5)
    assert found[1] == pytest.approx(size, rel=1e-5)


def test_every_objective_is_pinned() -> None:
    assert {case.split(",")[0] for case in ENDS} == set(OBJECTIVES)
