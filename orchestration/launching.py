"""Run jobs of the graph on this machine, several at once, with what they took and why they failed.

Each worker is a process of its own, as in the UI: Dagster configures the logging of the whole process whenever a run
starts, so two runs in the threads of one process can lock each other out for ever. Workers stay for all launches of a
pool, with what they have imported and with their Ray. What they and Ray print goes to a file of the workspace: what a
person needs to know is in the outcomes.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from orchestration.collector import collect_seldom
from orchestration.lost_runs import OWNER_TAG, owner
from orchestration.workspace import Workspace
from training.errors import FoundryError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.queues import Queue

    import dagster as dg

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BEFORE_PREPARING = 0.5
_SECONDS_TO_LEAVE = 20.0


@dataclass(frozen=True)
class Launch:
    """One run: a job, its partition, and run config by asset; ``assets`` names those of the job to run, empty for all.

    ``makes`` names the steps of which it makes a version.
    """

    job: str
    partition: str | None = None
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    assets: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name for people."""
        return self.job if self.partition is None else f"{self.job} {self.partition}"


@dataclass(frozen=True)
class Outcome:
    """What a run did. ``step_seconds`` is wall time by step; ``error`` is the first failure's own sentence."""

    launch: Launch
    run_id: str
    seconds: float
    step_seconds: Mapping[str, float]
    error: str | None


class LaunchPool:
    """Worker processes that execute launches, at most ``size`` at a time; started when they are first needed.

    Where ``much_to_do``, all are started with the first launch, and one that has nothing to do meanwhile loads what
    trainings need and starts its Ray.
    """

    def __init__(self, workspace: Workspace, size: int, *, much_to_do: bool = False) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._workspace = workspace
        self._size = size
        self._much_to_do = much_to_do
        self._launches: Queue[Launch | None] = self._context.Queue()
        self._outcomes: Queue[Outcome] = self._context.Queue()
        self._workers: list[SpawnProcess] = []

    def run(self, launches: Sequence[Launch], finished: Callable[[Outcome], None]) -> list[Outcome]:
        """Execute launches, in order of the list as workers become free; ``finished`` hears of each as it ends."""
        if launches:
            self._start(self._size if self._much_to_do else min(self._size, len(launches)))
        for launch in launches:
            self._launches.put(launch)
        outcomes: list[Outcome] = []
        while len(outcomes) < len(launches):
            try:
                outcomes.append(self._outcomes.get(timeout=_SECONDS_BETWEEN_LOOKS))
            except queue.Empty:
                self._raise_when_dead()
                continue
            finished(outcomes[-1])
        return outcomes

    def close(self) -> None:
        """Let workers leave; those that do not within 20 s are ended."""
        for _ in self._workers:
            self._launches.put(None)
        deadline = time.monotonic() + _SECONDS_TO_LEAVE
        for worker in self._workers:
            worker.join(max(deadline - time.monotonic(), 0.1))
            if worker.is_alive():
                worker.terminate()

    def _start(self, count: int) -> None:
        while len(self._workers) < count:
            work = _Work(
                self._workspace,
                log=worker_log(self._workspace, len(self._workers)),
                parent=os.getpid(),
                prepares=self._much_to_do,
            )
            arguments = (work, self._launches, self._outcomes)
            worker = self._context.Process(target=_serve, args=arguments, daemon=True)
            worker.start()
            self._workers.append(worker)

    def _raise_when_dead(self) -> None:
        for number, worker in enumerate(self._workers):
            if not worker.is_alive():
                raise FoundryError(
                    f"A worker process ended with exit code {worker.exitcode}, perhaps for lack of memory. Its last words "
                    f"are in {worker_log(self._workspace, number)}. What was finished is kept: run it again to go on."
                )


@contextmanager
def launch_pool(workspace: Workspace, size: int, *, much_to_do: bool = False) -> Iterator[LaunchPool]:
    """A pool that is closed whatever happens."""
    pool = LaunchPool(workspace, size, much_to_do=much_to_do)
    try:
        yield pool
    finally:
        pool.close()


def worker_log(workspace: Workspace, number: int) -> Path:
    """Where a pool's worker of this number, and the Ray that it starts, print to."""
    return workspace.root / "logs" / f"worker-{number}.log"


@dataclass(frozen=True)
class _Work:
    """What a worker is told when it starts: ``parent`` is the process whose end is its own too."""

    workspace: Workspace
    log: Path
    parent: int
    prepares: bool


def _serve(work: _Work, launches: Queue[Launch | None], outcomes: Queue[Outcome]) -> None:
    """A worker's life: load the graph once, then run what comes until None comes or the parent is gone."""
    collect_seldom()
    _print_to(work.log)
    _leave_with(work.parent)
    from orchestration.definitions import build
    from orchestration.instance import open_instance
    from orchestration.profile import load_profile

    with _children_ended(), open_instance(work.workspace, load_profile(work.workspace.profile)) as instance:
        definitions = build(work.workspace)
        while True:
            meanwhile = _preparations(work.workspace) if work.prepares else iter(())
            launch = _next(launches, meanwhile, work.parent)
            if launch is None:
                return
            outcomes.put(run_launch(definitions, instance, launch))


@contextmanager
def _children_ended() -> Iterator[None]:
    """End what this process has started: a Ray that is interrupted while it starts leaves some of its agents behind."""
    try:
        yield
    finally:
        children = psutil.Process().children(recursive=True)
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def _next(launches: Queue[Launch | None], meanwhile: Iterator[None], parent: int) -> Launch | None:
    """Wait for what to do next, and go a step further with something else whenever there is nothing.

    None when there will be nothing more, or when the parent is gone.
    """
    while os.getppid() == parent:
        try:
            return launches.get(timeout=_SECONDS_BEFORE_PREPARING)
        except queue.Empty:
            next(meanwhile, None)
    return None


def _leave_with(parent: int) -> None:
    """Interrupt this process when its parent is gone, so that no training goes on behind a killed command's back."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    threading.Thread(target=watch, daemon=True).start()


def _print_to(log: Path) -> None:
    """Let this process and its children print to a file, begun anew."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def _preparations(workspace: Workspace) -> Iterator[None]:
    """What any training needs, a few seconds a piece, for a worker that has nothing else to do."""
    import training.run  # noqa: F401 (imported for later)
    from orchestration.definitions import compute_of
    from orchestration.profile import load_profile

    yield
    with suppress(FoundryError):  # a cluster that is not there is told by the run that needs it
        compute_of(load_profile(workspace.profile)).prepare()
    yield


def run_launch(definitions: dg.Definitions, instance: dg.DagsterInstance, launch: Launch) -> Outcome:
    """Execute one launch in this process. The run appears in the UI like any other."""
    import dagster

    start = time.monotonic()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    ops = {name: {"config": dict(values)} for name, values in launch.config.items()}
    result = definitions.resolve_job_def(launch.job).execute_in_process(
        instance=instance,
        partition_key=launch.partition,
        asset_selection=[dagster.AssetKey(name) for name in launch.assets] or None,
        run_config={**quiet, **({"ops": ops} if ops else {})},
        raise_on_error=False,
        tags={OWNER_TAG: owner()},
    )
    seconds = {
        stats.step_key: (stats.end_time or 0.0) - (stats.start_time or 0.0)
        for stats in instance.get_run_step_stats(result.run_id)
        if stats.start_time and stats.end_time
    }
    error = None if result.success else _first_error(result)
    return Outcome(launch, result.run_id, time.monotonic() - start, seconds, error)


def _first_error(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return f"{event.step_key}: {data.user_failure_data.description}"
            error = data.error
            cause = error.cause if error is not None and error.cause is not None else error
            return f"{event.step_key}: {cause.message.strip() if cause is not None else 'failed'}"
        if event.is_failure and event.message:
            return event.message
    return "the run failed without a message; look at it in the UI"
