"""Our real loop over random latents and texts of a model's own shape, written as real shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from training.backbones import build_backbone, latent_shape, pooled_dim, text_dim
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.loop.loop import Loop
from training.model_folders.autoencoders import build_autoencoder
from training.objectives import Objective, build_objective
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run_folder import prepare
from training.shards import write_training_shards

NUM_SAMPLES, NUM_TEXTS, TOKENS = 256, 64, 77
TEXT_ENCODER_DIGEST, PARENT_DIGEST = "e" * 64, "a" * 64


@dataclass(frozen=True)
class Case:
    """A registered backbone, the images of a batch, number format, and whether an average of weights is kept."""

    backbone: str
    batch_size: int
    precision: str = "fp32"
    ema: bool = True


def build_loop(case: Case, folder: Path, device: str, execution: Mapping[str, Any] | None = None) -> Loop:
    """A loop that predicts noise under latent diffusion's schedule, ready to step; its files lie in ``folder``."""
    section = {"diffusion": {"prediction": "epsilon", "time_sampling": "uniform"}}
    return loop_of(case, folder, device, {"backbone": case.backbone, **section}, build_objective, execution)


def loop_of(
    case: Case,
    folder: Path,
    device: str,
    settings: Mapping[str, Any],
    objective: Callable[[TrainingSpecification, Execution, str], Objective],
    execution: Mapping[str, Any] | None = None,
) -> Loop:
    """A loop of any objective over data of the case's backbone; ``settings`` are its recipe's beside the case's own."""
    with torch.device("meta"):
        model = build_backbone(case.backbone)
    shape = latent_shape(model)
    inputs = {"autoencoder": _write_autoencoder(folder / "autoencoder", shape[0])}
    width = text_dim(model.config)
    _write_shards(folder / "shards", shape, (width, pooled_dim(model.config) or width), inputs["autoencoder"])
    inputs |= {"text_encoder": TEXT_ENCODER_DIGEST, "dataset": folder_digest(folder / "shards")}
    paths = {"dataset": str(folder / "shards"), "autoencoder": str(folder / "autoencoder")}
    recipe = load_recipe({**_case_settings(case), **settings})
    if recipe.parent is not None:  # which the objective has in memory
        inputs |= {"parent": PARENT_DIGEST}
        paths |= {"parent": str(folder)}
    spec = TrainingSpecification(recipe=recipe, inputs=inputs)
    machine = {"device": device, "threads": torch.get_num_threads(), "input_paths": paths}
    how = Execution.model_validate({**machine, **(execution or {})})
    run = prepare(folder / "runs", spec, how)
    return Loop(run, spec.recipe, how, objective(spec, how, device))


def _case_settings(case: Case) -> dict[str, Any]:
    return {
        "name": "measured",
        "images_total": 10**9,
        "batch_size": case.batch_size,
        "learning_rate": 1e-4,
        "ema_half_life_images": 10_000 if case.ema else None,
        "precision": case.precision,
    }


def _write_autoencoder(folder: Path, channels: int) -> str:
    options = AutoencoderOptions(block_channels=(8, 8), latent_channels=channels)
    build_autoencoder(options, 64, seed=0).save_pretrained(folder)
    return folder_digest(folder, OUTSIDE_MODEL_DIGEST)


def _write_shards(
    folder: Path, shape: tuple[int, int, int], widths: tuple[int, int], autoencoder_digest: str
) -> None:
    """``widths``: of token states and of pooled text."""
    random = np.random.default_rng(0)
    lengths = np.full(NUM_TEXTS, TOKENS, np.int32)
    ids = [f"s{index}" for index in range(NUM_SAMPLES)]
    write_training_shards(
        folder,
        pa.table({"sample_id": ids, "split": ["train"] * NUM_SAMPLES}),
        random.normal(size=(NUM_SAMPLES, *shape)).astype(np.float16),
        np.arange(NUM_SAMPLES + 1, dtype=np.int64),
        random.integers(1, NUM_TEXTS, NUM_SAMPLES).astype(np.int64),
        random.normal(size=(lengths.sum(), widths[0])).astype(np.float16),
        lengths,
        random.normal(size=(NUM_TEXTS, widths[1])).astype(np.float16),
        null_text_index=0,
        autoencoder_digest=autoencoder_digest,
        text_encoder_digest=TEXT_ENCODER_DIGEST,
        max_tokens=TOKENS,
    )
