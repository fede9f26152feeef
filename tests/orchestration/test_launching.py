"""Pools of launch workers: they and their Ray go with their command, and a death is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from orchestration.launching import Launch, launch_pool, worker_log
from orchestration.workspace import PROJECT_ROOT, Workspace
from tests.end_to_end.dagster_client import wait_for
from training.errors import FoundryError

DRIVER = """
import sys
from pathlib import Path
from orchestration.launching import Launch, launch_pool
from orchestration.workspace import Workspace
with launch_pool(Workspace(Path(sys.argv[1]), "smoke", "scenes"), 1, much_to_do=True) as pool:
    print(pool.run([Launch("compose_scenes")], lambda outcome: None)[0].error, flush=True)
    sys.stdin.read()
"""


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_command_leaves_no_worker_and_no_ray_and_the_next_one_works(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "smoke", "scenes")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"None\n"
    process = psutil.Process(driver.pid)

    def is_prepared() -> bool:
        """Whether the idle worker has started a Ray, or is about to."""
        return any(child.name().startswith("ray::") for child in process.children(recursive=True))

    wait_for(is_prepared, 60, "the worker to start its Ray")
    left = process.children(recursive=True)
    driver.kill()
    driver.communicate()
    wait_for(lambda: not any(map(lives, left)), 30, "worker and Ray to leave")
    with launch_pool(workspace, 1) as pool:
        (outcome,) = pool.run([Launch("compose_scenes")], lambda outcome: None)
    assert outcome.error is None
    assert worker_log(workspace, 0).exists()


def test_a_worker_that_dies_is_told_with_the_place_of_its_last_words(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "smoke", "scenes")
    own = set(psutil.Process().children())

    def kill_the_worker() -> None:
        def workers() -> set[psutil.Process]:
            new = set(psutil.Process().children()) - own
            return {process for process in new if "spawn_main" in " ".join(process.cmdline())}

        wait_for(lambda: bool(workers()), 30, "the worker to start")
        for worker in workers():
            worker.kill()

    killer = threading.Thread(target=kill_the_worker, daemon=True)
    killer.start()
    with (
        launch_pool(workspace, 1) as pool,
        pytest.raises(FoundryError, match=r"exit code -9.*worker-0\.log.*run it again"),
    ):
        pool.run([Launch("compose_scenes")], lambda outcome: None)
    killer.join()
