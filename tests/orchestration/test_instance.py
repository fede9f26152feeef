"""Dagster's instance of a workspace is there for all who open it at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestration.instance import open_instance
from orchestration.profile import load_profile
from orchestration.workspace import Workspace

AT_ONCE = 8


def test_a_new_workspace_is_opened_by_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, profile = Workspace(tmp_path, "smoke", "scenes"), load_profile("smoke")
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    start = threading.Barrier(AT_ONCE)

    def slots(_: int) -> int | None:
        start.wait()
        with open_instance(workspace, profile) as instance:
            return instance.event_log_storage.get_concurrency_info(profile.compute.pool).slot_count

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(slots, range(AT_ONCE))) == [profile.compute.concurrent_runs] * AT_ONCE
