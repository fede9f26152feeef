"""Run jobs of the graph on this machine, several at once, with what they took and why they failed.

Each worker is a process of its own, as in the UI: Dagster configures the logging of the whole process whenever a run
starts, so two runs in the threads of one process can lock each other out for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestration.lost_runs import OWNER_TAG, owner
from orchestration.workspace import Workspace

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.queues import Queue

    import dagster as dg

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_LEAVE = 20.0


@dataclass(frozen=True)
class Launch:
    """One run: a job, its partition, and run config by asset; ``assets`` names those of the job to run, empty for all."""

    job: str
    partition: str | None = None
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    assets: tuple[str, ...] = ()

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
    """Worker processes that execute launches, at most ``size`` at a time; started when they are first needed."""

    def __init__(self, workspace: Workspace, size: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._workspace = workspace
        self._size = size
        self._launches: Queue[Launch | None] = self._context.Queue()
        self._outcomes: Queue[Outcome] = self._context.Queue()
        self._workers: list[SpawnProcess] = []

    def run(self, launches: Sequence[Launch], finished: Callable[[Outcome], None]) -> list[Outcome]:
        """Execute launches, in order of the list as workers become free; ``finished`` hears of each as it ends."""
        self._start(min(self._size, len(launches)))
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
            arguments = (self._workspace, self._launches, self._outcomes, os.getpid())
            worker = self._context.Process(target=_serve, args=arguments, daemon=True)
            worker.start()
            self._workers.append(worker)

    def _raise_when_dead(self) -> None:
        for worker in self._workers:
            if not worker.is_alive():
                raise RuntimeError(
                    f"A worker process ended with exit code {worker.exitcode}, perhaps for lack of memory. "
                    "What was finished is kept: run it again to go on."
                )


@contextmanager
def launch_pool(workspace: Workspace, size: int) -> Iterator[LaunchPool]:
    """A pool that is closed whatever happens."""
    pool = LaunchPool(workspace, size)
    try:
        yield pool
    finally:
        pool.close()


def _serve(
    workspace: Workspace, launches: Queue[Launch | None], outcomes: Queue[Outcome], parent: int
) -> None:
    """A worker's life: load the graph once, then run what comes until None comes or the parent is gone."""
    from orchestration.definitions import build
    from orchestration.instance import open_instance
    from orchestration.profile import load_profile

    with open_instance(workspace, load_profile(workspace.profile)) as instance:
        definitions = build(workspace)
        while os.getppid() == parent:
            try:
                launch = launches.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                continue
            if launch is None:
                return
            outcomes.put(run_launch(definitions, instance, launch))


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
