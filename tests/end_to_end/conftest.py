"""One smoke workspace, built once by the real command, and what tests need to look at it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.definitions import build
from orchestration.instance import open_instance
from orchestration.launching import Launch, run_launch
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import PROJECT_ROOT, Workspace


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a command that ended."""

    code: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """The JSON that ``--json`` printed."""
        return json.loads(self.out[self.out.index("[") :])


def foundry(workspace: Workspace, *arguments: str, timeout: float = 280) -> Finished:
    """Run the real ``foundry`` in a process of its own."""
    command = [sys.executable, "-m", "orchestration.command.main", *arguments]
    environment = {**os.environ, **workspace.environment(), "COLUMNS": "200"}
    run = subprocess.run(
        command,
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(run.returncode, run.stdout, run.stderr)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which the whole graph has been materialized at smoke scale; nobody changes it.

    The processes of a parallel run share it: the first that asks builds it, the others wait for that.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "built"
    folder.mkdir(exist_ok=True)
    workspace, outcome = Workspace(folder, "smoke", "scenes"), folder / "outcome.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not outcome.exists():
            done = foundry(workspace, "demo")
            outcome.write_text(json.dumps(asdict(done)))
    assert said_while_built(workspace).code == 0, outcome.read_text()
    return workspace


def said_while_built(workspace: Workspace) -> Finished:
    """What the demo said that built the workspace."""
    return Finished(**json.loads((workspace.home / "outcome.json").read_text()))


@pytest.fixture(scope="session")
def smoke(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """This process's own copy of the smoke workspace. Tests that spoil it take another copy."""
    return copy_of(built, tmp_path_factory.mktemp("foundry"))


@pytest.fixture(scope="session")
def store(smoke: Workspace) -> ManifestStore:
    return ManifestStore(smoke.store)


def copy_of(workspace: Workspace, home: Path) -> Workspace:
    """The same workspace in another place, its landed shards included, to be spoiled."""
    copy = Workspace(home, workspace.profile, workspace.data)
    shutil.copytree(workspace.root, copy.root)
    if not copy.landing.exists():  # that of composed scenes lies inside
        shutil.copytree(workspace.landing, copy.landing)
    return copy


class Runs:
    """Runs in this process, with the environment that the workspace's command would have."""

    def __init__(self, workspace: Workspace, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self._definitions = build(workspace)

    def launch(
        self, job: str, partition: str | None = None, config: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Execute one run, which has to succeed."""
        outcome = run_launch(self._definitions, self.instance, Launch(job, partition, config or {}))
        assert outcome.error is None, outcome.error


@contextmanager
def runs_in(workspace: Workspace) -> Iterator[Runs]:
    """Runs in a workspace of the smoke profile."""
    before = dict(os.environ)
    os.environ.update(workspace.environment())
    try:
        with open_instance(workspace, load_profile("smoke")) as instance:
            yield Runs(workspace, instance)
    finally:
        os.environ.clear()
        os.environ.update(before)


def flip_byte(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
