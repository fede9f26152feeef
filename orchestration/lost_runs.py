"""Runs whose process was killed: ended by whoever opens the workspace next, so that nothing waits for them for ever.

A killed process cannot say that its run is over. To Dagster the run goes on, and keeps its place in the pool of trainings:
the next launch would wait for that place. Runs of the command therefore carry the process that executes them. Those that
the UI launches are watched by Dagster's own run monitoring.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from dagster import DagsterInstance

OWNER_TAG = "foundry/process"
_SECONDS_OF_DOUBT = 2.0  # by which the start of one and the same process may be told differently


def owner(process: psutil.Process | None = None) -> str:
    """A process, this one if none is given, as a tag: host, number and the second of its start, for numbers are used again."""
    process = process or psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.0f}"


def is_gone(tag: str) -> bool:
    """Whether the process of a tag has ended; False for one of another host, of which nothing can be said from here."""
    host, number, started = tag.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(number))
        same = abs(process.create_time() - float(started)) <= _SECONDS_OF_DOUBT
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_lost_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone, and free the places in pools that no running run holds.

    Returns the ids of the runs that it ended. What they had finished stays, and trainings go on from their checkpoints.
    """
    from dagster import RunsFilter
    from dagster._core.storage.dagster_run import FINISHED_STATUSES, IN_PROGRESS_RUN_STATUSES

    ended = []
    for run in instance.get_runs(RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES))):
        tag = run.tags.get(OWNER_TAG)
        if tag is not None and is_gone(tag):
            instance.report_run_failed(
                run,
                "The process of this run was killed. What it had finished is kept: launch it again to go on.",
            )
            ended.append(run.run_id)
    storage = instance.event_log_storage
    holders = list(storage.get_concurrency_run_ids())
    if holders:
        over = instance.get_runs(RunsFilter(run_ids=holders, statuses=list(FINISHED_STATUSES)))
        for run in over:
            storage.free_concurrency_slots_for_run(run.run_id)
    return ended
