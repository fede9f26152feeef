"""One training on several Ray workers, here or on several machines, by Ray Train.

Ray Train starts the workers, makes their process group, and starts all of them again when one dies; the run then goes
on from its last checkpoint, so that a death costs the work since then. All workers must see the run folder and its
inputs under the same path.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from orchestration.collector import collect_seldom
from training.errors import FoundryError, TrainingFailed, TrainingStopped
from training.run_folder import RunFolder, write_text_atomic

MOST_RESTARTS = 3
RAY_FOLDER = "ray"
REFUSAL = "refusal.txt"
"""Why the training cannot go on: written by the worker that found out, so that nobody tries the same again."""


def train_on_workers(run_folder: str, workers: int, cpus: float, gpus: float) -> None:
    """Train to the end with so many workers of so many CPUs and GPUs; runs inside a Ray task of its own.

    Raises FoundryError with the run's own words, TrainingStopped when it was stopped.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # relative paths keep their meaning
    folder = RunFolder(Path(run_folder))
    own = folder.path / RAY_FOLDER
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    trainer = TorchTrainer(
        _work,
        train_loop_config={"run_folder": run_folder},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker=_needs(cpus, gpus)
        ),
        run_config=RunConfig(
            name=RAY_FOLDER, storage_path=run_folder, failure_config=FailureConfig(max_failures=MOST_RESTARTS)
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        _raise_refusal(own)
        said = folder.read_progress().error or " ".join(str(error).split())
        raise TrainingFailed(
            f"{run_folder}: {workers} Ray workers were started {MOST_RESTARTS + 1} times and failed each time, the last "
            f"time with: {said}. Its last checkpoint is kept: launch the same partition again to go on from there."
        ) from error
    _raise_refusal(own)
    shutil.rmtree(own, ignore_errors=True)
    if folder.read_progress().state == "stopped":
        raise TrainingStopped(f"{run_folder}: stopped after a checkpoint; launch again to go on from there.")


def _work(config: dict[str, Any]) -> None:
    """What each worker does; an error that another start would meet again is written down first."""
    collect_seldom()
    from training.run import run

    folder = RunFolder(Path(config["run_folder"]))
    refusal = folder.path / RAY_FOLDER / REFUSAL
    if refusal.exists():
        return
    try:
        run(folder.path)
    except TrainingStopped:
        return  # progress.json says so
    except FoundryError as error:
        write_text_atomic(refusal, str(error))
        raise


def _raise_refusal(own: Path) -> None:
    refusal = own / REFUSAL
    if refusal.exists():
        message = refusal.read_text()
        shutil.rmtree(own, ignore_errors=True)
        raise TrainingFailed(message)


def _needs(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
