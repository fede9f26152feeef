"""What each process of a team does in the tests: train run folders one after the other. Started by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch.distributed as dist

from training.run import run

if __name__ == "__main__":
    dist.init_process_group("gloo")  # as Ray Train does, before the training starts
    for folder in sys.argv[1:]:
        run(Path(folder))
    dist.destroy_process_group()
