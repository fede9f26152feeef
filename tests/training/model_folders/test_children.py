"""Whatever is made of an SDXL-, SD3- or FLUX-shaped model is a folder whose stock pipeline draws our sampler's picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import RunMaker
from tests.training.model_folders.stock import run_card, told
from training.diffusion.few_step_schedulers import FEW_STEPS, read_scheduler_config
from training.diffusion.schedulers import noising_of
from training.model_folders.card import usage_code
from training.model_folders.denoiser import Denoiser, sample_with
from training.model_folders.export import export_pipeline
from training.model_folders.parents import load_backbone
from training.model_folders.pretrained import read_index
from training.model_folders.probe import reload_equals_saved
from training.pruning import prune
from training.pruning.units import unit_groups
from training.run import run

FAMILIES = {
    "SDXL-stock-tiny": "StableDiffusionXLPipeline",
    "SD3-tiny": "StableDiffusion3Pipeline",
    "FLUX-tiny": "FluxPipeline",
}
KEPT: dict[str, dict[str, Any]] = {
    "SDXL-stock-tiny": {"depth": [1, 1]},
    "SD3-tiny": {"blocks": 1},
    "FLUX-tiny": {"blocks": 1, "single_blocks": 1},
}
DRAW_NOISE_THEMSELVES = ("StableDiffusion3Pipeline", "FluxPipeline")
"""They hand their scheduler no generator: the noise between the steps of a few-step model is torch's own, and not ours."""
LATENT_SIZE = (8, 8)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, runs: RunMaker) -> str:
    """A backbone's name; a model of it is the parent of the runs that follow."""
    name: str = request.param
    folder = runs.prepare("parents", name="teacher", backbone=name, images_total=8)
    run(folder.path)
    runs.parent = folder.model
    return name


def child(runs: RunMaker, objective: str, **settings: Any) -> Path:
    folder = runs.prepare(
        name="child", objective=objective, parent="teacher", backbone=None, images_total=8, **settings
    )
    run(folder.path)
    return folder.model


def check(folder: Path, pipeline: str) -> None:
    """The folder names its pipeline, answers its probe, and the card's call gives our sampler's picture."""
    assert read_index(folder)["_class_name"] == pipeline
    assert reload_equals_saved(folder) == pytest.approx(0, abs=1e-6)
    code, denoiser = usage_code(folder), Denoiser.load(folder)
    steps, guidance = (FEW_STEPS, 1.0) if denoiser.few_step else (20, 3.0)
    if denoiser.few_step and pipeline in DRAW_NOISE_THEMSELVES:
        code, steps = code.replace(f"steps={steps}", "steps=1"), 1
    names = run_card(code, folder)
    ours = sample_with(denoiser, told(names), [0], steps, guidance, latent_size=LATENT_SIZE)
    stock = np.stack([np.asarray(image) for image in names["images"]])
    difference = np.abs(stock.astype(int) - ours.astype(int))
    assert difference.max() <= 2
    assert difference.mean() < 0.1
    assert stock.std() > 1


@pytest.mark.filterwarnings("ignore")
def test_a_few_step_student(runs: RunMaker, family: str) -> None:
    folder = child(runs, "step_distillation", step_distillation={"intervals": 4})
    assert Denoiser.load(folder).few_step
    check(folder, FAMILIES[family])


@pytest.mark.filterwarnings("ignore")
def test_a_smaller_student(runs: RunMaker, family: str) -> None:
    folder = child(runs, "feature_distillation", feature_distillation={"student": KEPT[family]})
    check(folder, FAMILIES[family])


@pytest.mark.filterwarnings("ignore")
def test_a_fine_tuned_child_by_adapters(runs: RunMaker, family: str) -> None:
    folder = child(runs, "diffusion", lora={"rank": 2, "targets": ["attention"]})
    assert (folder / "lora").is_dir()
    check(folder, FAMILIES[family])


@pytest.mark.filterwarnings("ignore")
def test_a_pruned_model(runs: RunMaker, family: str, tmp_path: Path) -> None:
    parent = runs.parent
    assert parent is not None
    backbone = load_backbone(parent)
    group = next(group for group in unit_groups(backbone) if group.kind == "ffn")
    keep = torch.arange(group.num_units) % 2 == 0
    pruned = prune(backbone, {(group.kind, group.name): keep})
    folder = tmp_path / "pruned"
    noising = noising_of(read_scheduler_config(parent))
    export_pipeline(folder, pruned, parent / "vae", noising, parent=parent)
    assert "training.pruning.saving" in usage_code(folder)
    check(folder, FAMILIES[family])
