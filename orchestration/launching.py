"""Run jobs of the graph in this process, several at once, with what they took and why they failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Launch:
    """One run: a job, its partition, and run config by asset."""

    job: str
    partition: str | None = None
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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


def run_launch(definitions: dg.Definitions, instance: dg.DagsterInstance, launch: Launch) -> Outcome:
    """Execute one launch in this thread. The run appears in the UI like any other."""
    start = time.monotonic()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    ops = {name: {"config": dict(values)} for name, values in launch.config.items()}
    result = definitions.resolve_job_def(launch.job).execute_in_process(
        instance=instance,
        partition_key=launch.partition,
        run_config={**quiet, **({"ops": ops} if ops else {})},
        raise_on_error=False,
    )
    seconds = {
        stats.step_key: (stats.end_time or 0.0) - (stats.start_time or 0.0)
        for stats in instance.get_run_step_stats(result.run_id)
        if stats.start_time and stats.end_time
    }
    error = None if result.success else _first_error(result)
    return Outcome(launch, result.run_id, time.monotonic() - start, seconds, error)


def run_all(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    launches: Sequence[Launch],
    at_once: int,
    finished: Callable[[Outcome], None],
) -> list[Outcome]:
    """Execute launches, ``at_once`` at a time, in order of the list; ``finished`` hears of each as it ends."""

    def one(launch: Launch) -> Outcome:
        outcome = run_launch(definitions, instance, launch)
        finished(outcome)
        return outcome

    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="launch") as pool:
        return list(pool.map(one, launches))


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
