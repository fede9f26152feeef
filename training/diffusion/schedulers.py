"""Stock schedulers of a noise process, and the noise process that a scheduler's configuration describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import DPMSolverMultistepScheduler

from training.diffusion.noise_process import BETAS, NUM_TIMESTEPS, PREDICTION_TYPES, Noising
from training.errors import FoundryError


def build_scheduler(
    prediction: str, schedule: str = "scaled_linear", *, zero_terminal_snr: bool = False
) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (order 2) for a prediction: flow sigmas on the flow path, the betas of the schedule else."""
    beta_schedule, first, last = BETAS[schedule]
    return DPMSolverMultistepScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_start=first,
        beta_end=last,
        beta_schedule=beta_schedule,
        prediction_type=PREDICTION_TYPES[prediction],
        use_flow_sigmas=Noising(prediction).is_flow_path,
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def scheduler_of(noising: Noising) -> DPMSolverMultistepScheduler:
    """:func:`build_scheduler` of a noise process."""
    return build_scheduler(noising.prediction, noising.schedule, zero_terminal_snr=noising.zero_terminal_snr)


def noising_of(config: Mapping[str, Any]) -> Noising:
    """The noise process that a scheduler's configuration describes. Raises FoundryError for one we do not know."""
    if config.get("_class_name") == "FlowMatchEulerDiscreteScheduler":
        return Noising("flow")
    predictions = {value: key for key, value in PREDICTION_TYPES.items()}
    schedules = {beta_schedule: name for name, (beta_schedule, _, _) in BETAS.items()}
    prediction, schedule = (
        config.get("prediction_type", "epsilon"),
        config.get("beta_schedule", "scaled_linear"),
    )
    if prediction not in predictions or schedule not in schedules:
        raise FoundryError(
            f"scheduler_config.json: prediction_type '{prediction}' with beta_schedule '{schedule}'; known are "
            f"{', '.join(predictions)} with {', '.join(schedules)}"
        )
    _check_betas(config, schedules[schedule])
    return Noising(predictions[prediction], schedules[schedule], bool(config.get("rescale_betas_zero_snr")))


def _check_betas(config: Mapping[str, Any], schedule: str) -> None:
    _, *wanted = BETAS[schedule]
    found = [config.get("beta_start", wanted[0]), config.get("beta_end", wanted[1])]
    if schedule != "cosine" and found != wanted:
        raise FoundryError(
            f"scheduler_config.json: betas run from {found[0]} to {found[1]}; '{schedule}' is known with "
            f"{wanted[0]} to {wanted[1]}"
        )
