"""Starting several processes that train together, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.training import team_program
from training.run_folder import RunFolder


def start_team(*folders: RunFolder, processes: int = 2) -> None:
    """Train folders, one after the other, with several processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    program = [str(Path(team_program.__file__)), *(str(folder.path) for folder in folders)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(processes), *program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
