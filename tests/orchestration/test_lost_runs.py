"""A run whose process was killed is ended, gives its place in the pool back, and one that runs is left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from orchestration.lost_runs import OWNER_TAG, end_lost_runs, is_gone, owner

POOL = "trainings"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        made.event_log_storage.set_concurrency_slots(POOL, 1)
        yield made


def running(instance: dg.DagsterInstance, tag: str | None) -> dg.DagsterRun:
    """A run that was started, holds the pool's only place, and has not ended."""

    @dg.job
    def work() -> None: ...

    run = instance.create_run_for_job(
        work, status=dg.DagsterRunStatus.STARTED, tags={} if tag is None else {OWNER_TAG: tag}
    )
    claim = instance.event_log_storage.claim_concurrency_slot(POOL, run.run_id, "train")
    assert claim.is_claimed
    return run


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def of_dead_process() -> str:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        tag = owner(psutil.Process(child.pid))
        assert not is_gone(tag)
        child.kill()
    return tag


def test_the_run_of_a_killed_process_gives_its_place_back(instance: dg.DagsterInstance) -> None:
    lost = running(instance, of_dead_process())
    assert end_lost_runs(instance) == [lost.run_id]
    assert status_of(instance, lost) == dg.DagsterRunStatus.FAILURE
    assert running(instance, owner()).run_id != lost.run_id
    assert end_lost_runs(instance) == []


@pytest.mark.parametrize("tag", [owner(), None, "another-host:1:1"], ids=["own", "of the UI", "elsewhere"])
def test_what_may_still_run_keeps_its_place(instance: dg.DagsterInstance, tag: str | None) -> None:
    run = running(instance, tag)
    assert end_lost_runs(instance) == []
    assert status_of(instance, run) == dg.DagsterRunStatus.STARTED
    assert not instance.event_log_storage.claim_concurrency_slot(POOL, "other", "train").is_claimed


def test_a_number_that_is_used_again_is_another_process() -> None:
    host, number, started = owner().rsplit(":", 2)
    assert not is_gone(f"{host}:{number}:{started}")
    assert is_gone(f"{host}:{number}:{int(started) - 60}")
