"""Images to one held-out denoising error: Muon over AdamW, both at the best of a few rates, on four backbones.

The numbers of images do not depend on how busy the machine is. The rate of each optimiser is chosen with the first seed,
the other seeds train at that rate; the error to reach is the lowest that AdamW ends at, seed by seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.metrics.denoising import denoising_errors, noise_levels
from tests.benchmarks.scene_shards import HeldOut, held_out_scenes, write_scene_shards
from training.conditioning import Condition
from training.loop.loop import Loop
from training.model_folders.denoiser import Denoiser
from training.objectives import build_objective
from training.packaged_models import SHIPPED_AUTOENCODER
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run_folder import prepare

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

IMAGES, EVERY, LEVELS = 4096, 512, 4
SEEDS = (0, 1, 2)
ADAMW_RATES = (0.001, 0.002, 0.004, 0.008)
MUON = tuple(
    {"learning_rate": 0.004, "optimizer": {"name": "muon", "matrix_rate": rate}}
    for rate in (0.5, 1.0, 2.0, 4.0)
)
LIMITS = {
    "UNet-demo-c32": 0.9,
    "PixArt-demo-h64-d4": 0.9,
    "SD3-demo-h128-d4": 0.85,
    "FLUX-demo-h64-d2-s4": 0.95,
}


@dataclass(frozen=True)
class Bench:
    """Data that all runs share."""

    root: Path
    inputs: Mapping[str, str]
    held_out: HeldOut

    def errors(self, backbone: str, settings: Mapping[str, Any], seed: int) -> np.ndarray:
        """Held-out error of the averaged weights every :data:`EVERY` images."""
        loop = self._loop(backbone, settings, seed)
        found = []
        while loop.images_seen < IMAGES:
            loop._step()
            if loop.images_seen % EVERY == 0:
                found.append(self._error(loop))
        return np.array(found)

    def _loop(self, backbone: str, settings: Mapping[str, Any], seed: int) -> Loop:
        recipe = {
            "name": "measured",
            "backbone": backbone,
            "images_total": IMAGES,
            "warmup_images": 256,
            "schedule": "constant",
            "seed": seed,
            "ema_half_life_images": EVERY,
            "diffusion": {"prediction": "clean", "time_sampling": "uniform"},
            **settings,
        }
        paths = {"dataset": str(self.root / "shards"), "autoencoder": str(SHIPPED_AUTOENCODER)}
        spec = TrainingSpecification(recipe=load_recipe(recipe), inputs=dict(self.inputs))
        how = Execution(device="cpu", threads=1, input_paths=paths)
        return Loop(
            prepare(self.root / "runs", spec, how), spec.recipe, how, build_objective(spec, how, "cpu")
        )

    def _error(self, loop: Loop) -> float:
        denoiser = Denoiser.from_parts(loop.module, SHIPPED_AUTOENCODER, "clean")

        def predict(noisy: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
            scale = (1 + sigma)[:, None, None, None]
            return denoiser.predict_clean(noisy / scale, sigma / (1 + sigma), condition)

        with loop.averages["ema"].swapped_in():
            errors = denoising_errors(
                predict,
                list(self.held_out.keys),
                self.held_out.latents,
                self.held_out.condition,
                sigmas=noise_levels(LEVELS),
            )
        return float(errors.mean())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("optimizers")
    return Bench(root, write_scene_shards(root / "shards", 2048), held_out_scenes(64))


def images_to(errors: np.ndarray, wanted: float) -> float:
    """Images after which a curve first lies at ``wanted``, between its points by straight lines; nan if it never does."""
    below = np.flatnonzero(errors <= wanted)
    if not len(below):
        return float("nan")
    last = int(below[0])
    if last == 0:
        return float(EVERY)
    before, after = errors[last - 1], errors[last]
    return EVERY * (last + (before - wanted) / (before - after))


def best_of(bench: Bench, backbone: str, choices: list[dict[str, Any]]) -> tuple[dict[str, Any], np.ndarray]:
    """The settings that end lowest with the first seed, and their curve."""
    curves = [bench.errors(backbone, settings, SEEDS[0]) for settings in choices]
    for settings, curve in zip(choices, curves, strict=True):
        print(f"  {backbone} {settings}: {curve[-1]:.4f}")
    best = int(np.argmin([curve[-1] for curve in curves]))
    return choices[best], curves[best]


@pytest.mark.parametrize("backbone", list(LIMITS))
def test_images_to_one_error(bench: Bench, backbone: str) -> None:
    adamw, adamw_curve = best_of(bench, backbone, [{"learning_rate": rate} for rate in ADAMW_RATES])
    muon, muon_curve = best_of(bench, backbone, [dict(settings) for settings in MUON])
    ratios = []
    for seed in SEEDS:
        first = seed == SEEDS[0]
        theirs = adamw_curve if first else bench.errors(backbone, adamw, seed)
        ours = muon_curve if first else bench.errors(backbone, muon, seed)
        wanted = float(theirs.min())
        ratios.append(images_to(ours, wanted) / images_to(theirs, wanted))
    mean, half = float(np.mean(ratios)), 4.303 * float(np.std(ratios, ddof=1)) / len(ratios) ** 0.5
    print(
        f"{backbone}: AdamW {adamw}, Muon {muon}; images of Muon over AdamW's to the lowest error of AdamW: "
        f"{mean:.3f} (95% {mean - half:.3f} to {mean + half:.3f}; seeds {', '.join(f'{r:.3f}' for r in ratios)})"
    )
    assert mean <= LIMITS[backbone]
