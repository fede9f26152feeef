"""The files of one training run. Whoever dispatches a run follows this folder; nothing else is shared.

spec.json        canonical JSON of the specification; its sha256 is the folder's name
execution.json   how it is run here
hardware.txt     what it ran on last, one line
progress.json    images seen, speed, loss, state; replaced atomically
metrics/         Parquet parts named by the images seen at their last row
samples/         PNG sheets
snapshots/       the backbone after given numbers of images, each a folder of its weights
power_averages/  power-function averages kept for choosing a width later
checkpoints/     the last few, each a folder with a manifest of digests
model/           the result
done.json        content digest of model/; present only when all is written
stop             create it to stop the run after a checkpoint
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from training.digests import sha256_bytes
from training.errors import FoundryError, write_error
from training.recipes.execution import Execution
from training.recipes.specification import TrainingSpecification
from training.recipes.validation import validate

PROBE = "probe.safetensors"
"""In a model folder: what the model says to a fixed input."""

State = Literal["waiting", "running", "done", "failed", "stopped"]


class Progress(BaseModel):
    """Where a run stands. ``seconds_left`` is an estimate, None before the first measurement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: State
    images_seen: int = 0
    images_total: int = 0
    images_per_second: float | None = None
    loss: float | None = None
    seconds_left: float | None = None
    error: str | None = None
    updated_at: float = 0.0


class Done(BaseModel):
    """The end of a run: content digest of ``model/`` (cards excluded), images seen, seconds of training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec_hash: str
    model_digest: str
    images_seen: int
    final_loss: float
    train_seconds: float
    num_parameters: int


class RunFolder:
    """Typed access to the files of one run; every write is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.spec_path = self.path / "spec.json"
        self.execution_path = self.path / "execution.json"
        self.hardware_path = self.path / "hardware.txt"
        self.progress_path = self.path / "progress.json"
        self.done_path = self.path / "done.json"
        self.stop_path = self.path / "stop"
        self.lock_path = self.path / "lock"
        self.metrics = self.path / "metrics"
        self.samples = self.path / "samples"
        self.snapshots = self.path / "snapshots"
        self.power_averages = self.path / "power_averages"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"

    def read_spec(self) -> TrainingSpecification:
        """The specification, its hash recomputed. Raises FoundryError when the file was changed."""
        text = _read_text(self.spec_path)
        spec = validate(TrainingSpecification, _parse(text, self.spec_path), str(self.spec_path))
        found = sha256_bytes(text.encode())
        if found != self.path.name or spec.spec_hash != found:
            raise FoundryError(
                f"{self.spec_path}: its hash is {found[:16]}…, the folder is named {self.path.name[:16]}…. "
                "A specification must not be edited: change the recipe and launch a new run."
            )
        return spec

    def read_execution(self) -> Execution:
        """How to run here. Raises FoundryError for an unknown key or an impossible value."""
        return validate(
            Execution, _parse(_read_text(self.execution_path), self.execution_path), str(self.execution_path)
        )

    def read_progress(self) -> Progress:
        """The newest progress; state ``waiting`` when the run has not written any."""
        if not self.progress_path.exists():
            return Progress(state="waiting")
        return validate(
            Progress, _parse(_read_text(self.progress_path), self.progress_path), str(self.progress_path)
        )

    def write_progress(self, progress: Progress) -> None:
        """Replace ``progress.json``, stamped with the present time."""
        stamped = progress.model_copy(update={"updated_at": time.time()})
        write_text_atomic(self.progress_path, json.dumps(stamped.model_dump(), indent=1), durable=False)

    def write_hardware(self, name: str) -> None:
        """Say what the run is on now."""
        write_text_atomic(self.hardware_path, name + "\n", durable=False)

    def read_hardware(self) -> str:
        """What the run was on last; empty before its start."""
        return _read_text(self.hardware_path).strip() if self.hardware_path.exists() else ""

    def read_done(self) -> Done | None:
        """The result's record, or None while the run is not done."""
        if not self.done_path.exists():
            return None
        return validate(Done, _parse(_read_text(self.done_path), self.done_path), str(self.done_path))

    def write_done(self, done: Done) -> None:
        """Declare the run done: written last, after ``model/`` is complete."""
        write_text_atomic(self.done_path, json.dumps(done.model_dump(), indent=1))

    def request_stop(self) -> None:
        """Ask the run to write a checkpoint and end; the run polls for this file."""
        self.stop_path.touch()

    def stop_requested(self) -> bool:
        """Whether somebody asked the run to end."""
        return self.stop_path.exists()

    def read_metrics(self) -> Any:
        """All metric rows so far as one pyarrow table, in order of images seen (empty table when none)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        parts = [pq.read_table(part) for part in sorted(self.metrics.glob("*.parquet"))]
        return pa.concat_tables(parts, promote_options="default") if parts else pa.table({})


def prepare(runs_root: Path, spec: TrainingSpecification, execution: Execution) -> RunFolder:
    """Make (or find again, to resume) the run folder ``runs_root/<spec hash>``; clears an old stop.

    Raises FoundryError when the disk is full or not writable; what was there before is still there.
    """
    folder = RunFolder(Path(runs_root) / spec.spec_hash)
    try:
        for path in (folder.path, folder.metrics, folder.samples, folder.checkpoints):
            path.mkdir(parents=True, exist_ok=True)
        folder.stop_path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(folder.path, error) from error
    if not folder.spec_path.exists():
        write_text_atomic(folder.spec_path, spec.canonical_json())
    write_text_atomic(folder.execution_path, json.dumps(execution.model_dump(mode="json"), indent=1))
    return folder


def write_text_atomic(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file in one step: temporary file beside it, fsync (when durable), rename.

    Raises FoundryError when the disk is full; the old file survives.
    """
    write_bytes_atomic(path, text.encode(), durable=durable)


def write_bytes_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Like :func:`write_text_atomic`, for bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside this one, then put it in its place; half a folder is never seen.

    Raises FoundryError when it cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise write_error(folder, error) from error


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FoundryError(
            f"{path}: cannot be read ({error.strerror}). Prepare the run folder again from its recipe."
        ) from error


def _parse(text: str, path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise FoundryError(
            f"{path}: not valid JSON ({error}). Prepare the run folder again from its recipe."
        ) from error
    if not isinstance(values, dict):
        raise FoundryError(
            f"{path}: found {type(values).__name__}, expected an object. Prepare the run folder again."
        )
    return values
