"""One grid point: train it, and keep the backbone at every count it is scored at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assets.graph.interfaces import Compute, Models
from assets.models.training_runs import TrainedRun, train_to_end
from assets.scaling.points import Planned
from training.errors import FoundryError
from training.run_folder import RunFolder, write_text_atomic

COST_FILE = "cost.json"


@dataclass(frozen=True)
class RunCost:
    """What a run was on, and the wall seconds of training after each scored count."""

    hardware: str
    seconds_at: dict[int, float]


def snapshot_path(snapshots: Path, images_seen: int) -> Path:
    """Folder of the backbone that has seen so many images."""
    return snapshots / f"{images_seen:015d}"


def train_point(
    plan: Planned,
    digests: Mapping[str, str],
    paths: Mapping[str, Path],
    models: Models,
    compute: Compute,
    log: Callable[[str], None],
) -> TrainedRun:
    """Train to the end with a snapshot at every scored count; a run that was interrupted goes on where it was.

    A finished run that kept fewer counts (the grid asks for others now) is trained again: to the same weights, for
    randomness is a function of the seed. Raises FoundryError when snapshots are missing even then.
    """
    run = train_to_end(plan.recipe, digests, paths, models, compute, log, plan.counts)
    if missing_counts(run.folder, plan):
        log(
            f"the finished run kept no weights at {missing_counts(run.folder, plan)} images; training it again"
        )
        _forget(run.folder)
        run = train_to_end(plan.recipe, digests, paths, models, compute, log, plan.counts)
    missing = missing_counts(run.folder, plan)
    if missing:
        raise FoundryError(
            f"{run.folder.snapshots}: no weights at {missing} images. Delete the run folder and launch again."
        )
    for folder in [path for path in run.folder.snapshots.iterdir() if path.is_dir()]:
        if folder.name not in {snapshot_path(folder.parent, count).name for count in plan.counts}:
            shutil.rmtree(folder)  # counts that the grid no longer asks for
    _write_cost(run.folder, plan)
    return run


def read_cost(snapshots: Path) -> RunCost:
    """The cost that travels with a run's kept weights. Raises FoundryError when the file is missing or malformed."""
    path = snapshots / COST_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        seconds = {int(count): float(value) for count, value in values["seconds_at"].items()}
        return RunCost(str(values["hardware"]), seconds)
    except (OSError, ValueError, KeyError) as error:
        raise FoundryError(f"{path}: cannot be read ({error}); materialize scaling_run again") from error


def _write_cost(folder: RunFolder, plan: Planned) -> None:
    """Seconds after each count, between the loop's rows of metrics by interpolation."""
    metrics = folder.read_metrics()
    seen = np.concatenate([[0.0], metrics["images_seen"].to_numpy().astype(float)])
    seconds = np.concatenate([[0.0], metrics["seconds"].to_numpy().astype(float)])
    at = {str(count): round(float(np.interp(count, seen, seconds)), 3) for count in plan.counts}
    text = json.dumps({"hardware": folder.read_hardware(), "seconds_at": at}, indent=1)
    write_text_atomic(folder.snapshots / COST_FILE, text)


def missing_counts(folder: RunFolder, plan: Planned) -> list[int]:
    """Scored counts without a snapshot."""
    return [count for count in plan.counts if not snapshot_path(folder.snapshots, count).is_dir()]


def _forget(folder: RunFolder) -> None:
    """Back to the start: no result and no checkpoint to go on from."""
    folder.done_path.unlink(missing_ok=True)
    for path in (folder.checkpoints, folder.model):
        shutil.rmtree(path, ignore_errors=True)
    folder.checkpoints.mkdir()
