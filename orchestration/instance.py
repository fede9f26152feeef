"""Dagster's instance of a workspace: its folders, its environment, its pools."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestration.lost_runs import end_lost_runs
from orchestration.profile import Profile
from orchestration.workspace import Workspace
from training.errors import FoundryError

if TYPE_CHECKING:
    import dagster as dg


def enter_environment(workspace: Workspace) -> None:
    """Let this process, and every child of it, work on ``workspace``; makes its folders."""
    os.environ.update(workspace.environment())
    try:
        for folder in (workspace.dagster, workspace.store, workspace.runs, workspace.landing):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoundryError(
            f"FOUNDRY_HOME is {workspace.home}, where {error.filename} cannot be made: {error.strerror}. "
            "Point FOUNDRY_HOME at a folder that you may write to."
        ) from error


@contextmanager
def open_instance(workspace: Workspace, profile: Profile) -> Iterator[dg.DagsterInstance]:
    """The workspace's Dagster instance, with the pool sized for as many runs as the profile allows at once.

    Runs of killed processes are ended first, for they would keep their places in the pool.
    """
    import dagster as dg

    enter_environment(workspace)
    # Dagster creates its tables without asking whether another process is at it: the workers of a new workspace would meet.
    with (workspace.dagster / "opening.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        instance = dg.DagsterInstance.get()
        instance.get_runs(limit=1)
        instance.all_instigator_state()
    with instance:
        instance.event_log_storage.set_concurrency_slots(
            profile.compute.pool, profile.compute.concurrent_runs
        )
        end_lost_runs(instance)
        yield instance
