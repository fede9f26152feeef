"""Stock schedulers that sample consistency models, and what a scheduler's configuration tells of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import DPMSolverMultistepScheduler, LCMScheduler

from training.diffusion.noise_process import BETAS, NUM_TIMESTEPS, PREDICTION_TYPES, Noising
from training.errors import FoundryError

FEW_STEPS = 4  # of a consistency model, where nobody says otherwise


def few_step_scheduler_of(noising: Noising) -> LCMScheduler | DPMSolverMultistepScheduler:
    """The stock scheduler that samples a consistency model: its answer, noised afresh to the next level, and so on.

    DDPM: LCMScheduler (Luo et al. 2023, algorithm 3). Flow path: the schedulers made for it do not run in the stock
    pipelines of these classes, so SDE-DPM-Solver++ of order 1 (Lu et al. 2022), which replaces a share
    1 - exp(-2 h) of the noise's variance, h the step in log(alpha / sigma): all in the first step, 94% in the second of 3.
    """
    beta_schedule, first, last = BETAS[noising.schedule]
    shared = {
        "num_train_timesteps": NUM_TIMESTEPS,
        "beta_start": first,
        "beta_end": last,
        "beta_schedule": beta_schedule,
        "prediction_type": PREDICTION_TYPES[noising.prediction],
        "rescale_betas_zero_snr": noising.zero_terminal_snr,
    }
    if not noising.is_flow_path:
        return LCMScheduler(**shared)
    return DPMSolverMultistepScheduler(
        **shared, use_flow_sigmas=True, algorithm_type="sde-dpmsolver++", solver_order=1
    )


def is_few_step(folder: Path) -> bool:
    """Whether the folder's scheduler is one of those that :func:`few_step_scheduler_of` makes."""
    config = read_scheduler_config(folder)
    return config["_class_name"] == "LCMScheduler" or config.get("algorithm_type") == "sde-dpmsolver++"


def read_scheduler_config(folder: Path) -> dict[str, Any]:
    """``scheduler_config.json`` of a pipeline folder. Raises FoundryError when it cannot be read."""
    path = Path(folder) / "scheduler" / "scheduler_config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(
            f"{path}: cannot be read ({error}); name the model/ folder of a finished run"
        ) from error
    return config
