"""The entry point of a training: for a test, a Ray worker, a Ray job and ``python -m training.run RUN_FOLDER``.

Several processes train one run together when a process group exists already (Ray Train makes one) or when torchrun
started them: ``python -m torch.distributed.run --nproc-per-node 2 -m training.run RUN_FOLDER``.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import torch

from training.backbones import model_parameters
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest, folder_size_bytes
from training.errors import FoundryError, TrainingStopped
from training.hardware import hardware_name
from training.loop.loop import Loop
from training.loop.processes import Team, is_first_of_machine, join_team, local_device
from training.objectives import Closes, build_objective
from training.recipes.execution import Execution
from training.recipes.specification import TrainingSpecification
from training.run_folder import Done, Progress, RunFolder, replace_folder

EXIT_FAILED = 1
EXIT_STOPPED = 75  # EX_TEMPFAIL: launch again to go on
SECONDS_BETWEEN_POLLS = 0.2


def run(run_folder: Path, should_stop: Callable[[], bool] | None = None) -> None:
    """Train the run folder to the end; return at once when it is done already.

    ``should_stop`` is asked before every step, besides the folder's ``stop`` file; one process of several that is told
    to stop stops all. Raises FoundryError for a changed specification or input, TrainingStopped after a checkpoint,
    TrainingFailed when the loss is not finite.
    """
    folder = RunFolder(Path(run_folder))
    spec, execution = folder.read_spec(), folder.read_execution()
    with join_team(execution) as team:
        if team.lead(lambda: is_done(folder)):
            return
        with _lock(folder, team), _FailureRecord(folder, team):
            _train(folder, spec, execution, team, should_stop or (lambda: False))


def is_done(folder: RunFolder) -> bool:
    """Whether ``done.json`` stands and ``model/`` still has the digest it records; a damaged model is dropped.

    Training then goes on from the last checkpoint, which writes the same model again.
    """
    done = folder.read_done()
    if done is None:
        return False
    if folder.model.is_dir() and folder_digest(folder.model, OUTSIDE_MODEL_DIGEST) == done.model_digest:
        return True
    folder.done_path.unlink()
    shutil.rmtree(folder.model, ignore_errors=True)
    return False


def verify_inputs(spec: TrainingSpecification, execution: Execution) -> None:
    """Hash the inputs that lie on this machine and are not too large, against the specification's digests.

    Raises FoundryError naming the input that is missing or differs.
    """
    for name, path in execution.input_paths.items():
        wanted = spec.inputs.get(name)
        if wanted is None:
            raise FoundryError(
                f"execution.json: input_paths names '{name}', which the specification does not; drop it"
            )
        if "://" in path:
            continue  # a dataset by URL: its feed compares the digest and verifies each shard that it stages
        folder = Path(path)
        if not folder.is_dir():
            raise FoundryError(
                f"{folder}: input '{name}' is not there; stage it on this machine and launch again"
            )
        if folder_size_bytes(folder) > execution.verify_inputs_below_gib * 2**30:
            continue
        found = folder_digest(folder, OUTSIDE_MODEL_DIGEST)
        if found != wanted:
            raise FoundryError(
                f"{folder}: input '{name}' has digest {found[:16]}…, the specification names {wanted[:16]}…; "
                "it was changed or damaged, fetch it again or launch a new run"
            )


def _train(
    folder: RunFolder,
    spec: TrainingSpecification,
    execution: Execution,
    team: Team,
    should_stop: Callable[[], bool],
) -> None:
    device = _device(execution)
    torch.set_num_threads(execution.threads)
    team.together(lambda: verify_inputs(spec, execution) if is_first_of_machine() else None)
    if team.is_lead:
        folder.write_hardware(hardware_name(device, execution.threads))
        folder.write_progress(Progress(state="running", images_total=spec.recipe.images_total))
    objective = build_objective(spec, execution, device)
    with ExitStack() as beside:
        if isinstance(objective, Closes):
            beside.callback(objective.close)
        loop = Loop(folder, spec.recipe, execution, objective, team)
        for note in loop.notes if team.is_lead else ():
            print(note, file=sys.stderr)  # noqa: T201 (the worker's log is where a person looks)
        loop.train(_any_stop(folder, should_stop))
        _write_model(folder, loop)
    if team.is_lead:
        _finish(folder, spec, loop)


def _write_model(folder: RunFolder, loop: Loop) -> None:
    """Export the model; with an average that is the model, and ``raw/`` holds the last weights.

    All processes give their shards, the lead writes.
    """
    loop.module.eval()

    def write(place: Path) -> None:
        with loop.shares.presented(loop.average) as is_lead:
            if is_lead:
                loop.objective.export(place)
        if loop.average:
            with loop.shares.presented(None) as is_lead:
                if is_lead:
                    loop.objective.export_weights(place / "raw")

    if loop.team.is_lead:
        replace_folder(folder.model, write)
    else:
        write(folder.model)


def _finish(folder: RunFolder, spec: TrainingSpecification, loop: Loop) -> None:
    rows = folder.read_metrics()
    folder.write_done(
        Done(
            spec_hash=spec.spec_hash,
            model_digest=folder_digest(folder.model, OUTSIDE_MODEL_DIGEST),
            images_seen=loop.images_seen,
            final_loss=rows["loss"][-1].as_py(),
            train_seconds=loop.train_seconds,
            num_parameters=model_parameters(loop.module),
        )
    )
    folder.write_progress(folder.read_progress().model_copy(update={"state": "done", "seconds_left": 0.0}))


class _FailureRecord(AbstractContextManager["_FailureRecord"]):
    """Writes whatever ends the run, except a stop, into ``progress.json``, and lets it pass on.

    Of several processes the first that fails is told: the others then only notice that it is gone.
    """

    def __init__(self, folder: RunFolder, team: Team) -> None:
        self.folder, self.team = folder, team

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, TrainingStopped):
            return
        progress = self.folder.read_progress()
        message = str(error)
        if not isinstance(error, FoundryError):
            if self.team.size > 1 and progress.state == "failed":
                return
            message = f"{type(error).__name__}: {error}"
            if self.team.size > 1:
                message += (
                    f" (one of {self.team.size} processes; where another ended first, its log says why)"
                )
        self.folder.write_progress(progress.model_copy(update={"state": "failed", "error": message}))


def _any_stop(folder: RunFolder, should_stop: Callable[[], bool]) -> Callable[[], bool]:
    """Ask the caller at every step and look for the stop file at a bounded rate."""
    last_poll = 0.0

    def asked() -> bool:
        nonlocal last_poll
        if should_stop():
            return True
        if time.monotonic() - last_poll < SECONDS_BETWEEN_POLLS:
            return False
        last_poll = time.monotonic()
        return folder.stop_requested()

    return asked


def _device(execution: Execution) -> str:
    if execution.device == "auto":
        return local_device("cuda" if torch.cuda.is_available() else "cpu")
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise FoundryError("execution.json: 'device' is 'cuda', torch finds none; say 'cpu' or 'auto'")
    return local_device(execution.device)


@contextmanager
def _lock(folder: RunFolder, team: Team) -> Iterator[None]:
    """Hold the folder for the whole team, in its lead."""
    with ExitStack() as held:
        team.lead(lambda: held.enter_context(_locked(folder)))
        yield


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Hold the folder, so that two trainings never write the same run; a killed holder frees it."""
    with folder.lock_path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FoundryError(
                f"{folder.path}: another process trains this run; wait for it, or write the file 'stop' there"
            ) from None
        yield


def main(arguments: list[str] | None = None) -> int:
    """Command line: train a run folder; SIGTERM and SIGINT write a checkpoint and end with status 75."""
    parser = argparse.ArgumentParser(prog="python -m training.run", description=main.__doc__)
    parser.add_argument("run_folder", type=Path, help="a folder made by training.run_folder.prepare")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run(parser.parse_args(arguments).run_folder, stop.is_set)
    except TrainingStopped as stopped:
        print(stopped, file=sys.stderr)  # noqa: T201
        return EXIT_STOPPED
    except FoundryError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
