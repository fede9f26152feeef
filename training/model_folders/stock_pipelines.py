"""What a folder must hold so that its stock pipeline runs as it stands: a scheduler and an autoencoder that fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import DPMSolverMultistepScheduler

from training.backbones import StockPipeline
from training.model_folders.classes import AUTOENCODER_FILES

_NO_SHIFT, _ZERO_SHIFT = b'"shift_factor": null', b'"shift_factor": 0.0'


def fitted_scheduler(scheduler: Any, pipeline: StockPipeline) -> Any:
    """The scheduler as a pipeline can use it: asked for a shift of the noise levels, it shifts by nothing."""
    if not (pipeline.shifts_noise and isinstance(scheduler, DPMSolverMultistepScheduler)):
        return scheduler
    settings = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    shifting = DPMSolverMultistepScheduler(**{**settings, "use_dynamic_shifting": True})
    shifting.register_to_config(base_shift=0.0, max_shift=0.0)  # from which the pipeline computes the shift
    return shifting


def copy_autoencoder(source: Path, into: Path, pipeline: StockPipeline) -> None:
    """Copy an autoencoder beside a backbone. Its latents stay what they are: a shift of nothing is written as 0."""
    into.mkdir()
    for name in AUTOENCODER_FILES:
        data = (source / name).read_bytes()
        if name == "config.json" and pipeline.shifts_latents:
            data = data.replace(_NO_SHIFT, _ZERO_SHIFT)
        (into / name).write_bytes(data)


def autoencoder_file(path: Path) -> bytes:
    """A file of an autoencoder as it was before :func:`copy_autoencoder` wrote that it shifts by nothing."""
    data = path.read_bytes()
    return data.replace(_ZERO_SHIFT, _NO_SHIFT) if path.name == "config.json" else data
