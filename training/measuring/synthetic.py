"""Our real loop over random latents and texts of a model's own shape, written as real shards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from training.backbones import build_backbone, latent_shape, text_dim
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.loop import Loop
from training.objectives import build_objective
from training.objectives.autoencoder import build_autoencoder
from training.run_folder import prepare
from training.sampling import build_scheduler
from training.shards import write_training_shards
from training.spec import AutoencoderOptions, Execution, TrainingSpecification, load_recipe

NUM_SAMPLES, NUM_TEXTS, TOKENS = 256, 64, 77
TEXT_ENCODER_DIGEST = "e" * 64


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
    return _loop({**_settings(case), "backbone": case.backbone, **section}, case, folder, device, execution)


def build_distillation_loop(
    case: Case,
    student: Mapping[str, Any],
    folder: Path,
    device: str,
    execution: Mapping[str, Any] | None = None,
) -> Loop:
    """The same for feature distillation with its default features: ``case.backbone``, of random weights, is the teacher.

    ``student``: what is kept of it, as :class:`training.distillation_options.StudentOptions` has it.
    """
    settings = {
        **_settings(case),
        "objective": "feature_distillation",
        "parent": "teacher",
        "feature_distillation": {"student": dict(student)},
    }
    return _loop(settings, case, folder, device, execution)


def _loop(
    settings: dict[str, Any], case: Case, folder: Path, device: str, execution: Mapping[str, Any] | None
) -> Loop:
    with torch.device("meta"):
        model = build_backbone(case.backbone)
    shape = latent_shape(model)
    paths = {"dataset": folder / "shards", "autoencoder": folder / "autoencoder"}
    inputs = {"autoencoder": _write_autoencoder(paths["autoencoder"], shape[0])}
    _write_shards(paths["dataset"], shape, text_dim(model.config), inputs["autoencoder"])
    inputs |= {"text_encoder": TEXT_ENCODER_DIGEST, "dataset": folder_digest(paths["dataset"])}
    if "parent" in settings:
        paths["parent"] = folder / "teacher"
        inputs["parent"] = _write_teacher(paths["parent"], case.backbone, paths["autoencoder"])
    spec = TrainingSpecification(recipe=load_recipe(settings), inputs=inputs)
    places = {name: str(path) for name, path in paths.items()}
    chosen = {"device": device, "threads": torch.get_num_threads(), "input_paths": places}
    how = Execution.model_validate({**chosen, **(execution or {})})
    run = prepare(folder / "runs", spec, how)
    return Loop(run, spec.recipe, how, build_objective(spec, how, device))


def _settings(case: Case) -> dict[str, Any]:
    return {
        "name": "measured",
        "images_total": 10**9,
        "batch_size": case.batch_size,
        "learning_rate": 1e-4,
        "ema_half_life_images": 10_000 if case.ema else None,
        "precision": case.precision,
    }


def _write_teacher(folder: Path, backbone: str, autoencoder: Path) -> str:
    """What a parent's folder needs: backbone, scheduler, and the autoencoder of the latents."""
    model = build_backbone(backbone, 0)
    model.save_pretrained(folder / ("unet" if "UNet" in type(model).__name__ else "transformer"))
    build_scheduler("epsilon").save_pretrained(folder / "scheduler")
    shutil.copytree(autoencoder, folder / "vae")
    return folder_digest(folder, OUTSIDE_MODEL_DIGEST)


def _write_autoencoder(folder: Path, channels: int) -> str:
    options = AutoencoderOptions(block_channels=(8, 8), latent_channels=channels)
    build_autoencoder(options, 64, seed=0).save_pretrained(folder)
    return folder_digest(folder, OUTSIDE_MODEL_DIGEST)


def _write_shards(folder: Path, shape: tuple[int, int, int], width: int, autoencoder_digest: str) -> None:
    random = np.random.default_rng(0)
    lengths = np.full(NUM_TEXTS, TOKENS, np.int32)
    ids = [f"s{index}" for index in range(NUM_SAMPLES)]
    write_training_shards(
        folder,
        pa.table({"sample_id": ids, "split": ["train"] * NUM_SAMPLES}),
        random.normal(size=(NUM_SAMPLES, *shape)).astype(np.float16),
        np.arange(NUM_SAMPLES + 1, dtype=np.int64),
        random.integers(1, NUM_TEXTS, NUM_SAMPLES).astype(np.int64),
        random.normal(size=(lengths.sum(), width)).astype(np.float16),
        lengths,
        random.normal(size=(NUM_TEXTS, width)).astype(np.float16),
        null_text_index=0,
        autoencoder_digest=autoencoder_digest,
        text_encoder_digest=TEXT_ENCODER_DIGEST,
        max_tokens=TOKENS,
    )
