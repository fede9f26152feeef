"""Starting several processes that train together."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from tests.training import team_program
from tests.training.killing import PRELOAD
from training.run import run
from training.run_folder import RunFolder


def start_team(*folders: RunFolder, processes: int = 2) -> None:
    """Train folders, one after the other, with several processes that torchrun starts."""
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


def fork(part: Callable[[int, Path], None], folder: Path, processes: int = 2) -> None:
    """Call ``part(rank, folder)`` in processes that have a group; a server that imported torch once forks them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    members = [
        context.Process(target=_take_part, args=(part, folder, rank, processes)) for rank in range(processes)
    ]
    for member in members:
        member.start()
    for member in members:
        member.join(240)
    assert [member.exitcode for member in members] == [0] * processes


def fork_team(*folders: RunFolder) -> None:
    """Train folders, one after the other, with two processes that need not import anything any more."""
    fork(partial(_train_parts, [folder.path for folder in folders]), folders[0].path)


def _train_parts(folders: Sequence[Path], rank: int, _: Path) -> None:
    for folder in folders:
        run(folder)


def train_part(rank: int, folder: Path) -> None:
    """Take part in a training."""
    run(folder)


def _take_part(part: Callable[[int, Path], None], folder: Path, rank: int, size: int) -> None:
    import torch.distributed as dist

    gc.freeze()  # what the server had imported is no garbage
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    part(rank, folder)
    dist.destroy_process_group()
