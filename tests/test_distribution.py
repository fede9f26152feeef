"""In a parallel run a group stays in one process, groups begin in their order, and every other file is its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.distribution import GROUPS, rank_of, scope_of

ROOT = Path(__file__).parent.parent


def test_scopes_are_groups_or_files_and_begin_in_order() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    scopes = {file: scope_of(f"{file}::test_x[a::b]") for file in files}
    assert scopes["tests/end_to_end/test_command.py"] == "commands"
    assert scopes["tests/end_to_end/test_user_interface.py"] == "server"
    assert scopes["tests/orchestration/test_compute_pools.py"] == "ray"
    assert scopes["tests/orchestration/test_store.py"] == "tests/orchestration/test_store.py"
    assert set(GROUPS) < set(scopes.values()), "no group is empty"
    ranked = sorted(files, key=rank_of)
    assert list(dict.fromkeys(scopes[file] for file in ranked))[: len(GROUPS)] == list(GROUPS)


def test_xdist_keeps_a_group_in_one_process(tmp_path: Path) -> None:
    """The scheduler is reached through pytest-xdist's extension point, with the pinned versions."""
    for name in ("end_to_end/test_a", "end_to_end/test_b", "training/test_c", "training/test_d"):
        file = tmp_path / "tests" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("import time\ndef test_1(): time.sleep(.05)\ndef test_2(): time.sleep(.05)\n")
    done = subprocess.run(
        [*(sys.executable, "-m", "pytest", "-p", "tests.distribution", "-n", "2", "-v"), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "8 passed" in done.stdout, done.stdout + done.stderr
    ran = re.findall(r"\[(gw\d)\] .*PASSED (\S+)::", done.stdout)
    processes = {file: {worker for worker, other in ran if other == file} for _, file in ran}
    assert all(len(found) == 1 for found in processes.values()), processes
    assert processes["tests/end_to_end/test_a.py"] == processes["tests/end_to_end/test_b.py"]
    assert len(set.union(*processes.values())) == 2
