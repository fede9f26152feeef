"""What each process of a team does in the tests: train run folders one after the other. Started by torchrun.

The first one finds no process group and makes it from torchrun's variables, as ``python -m training.run`` does; the
others adopt one, as they do in a Ray worker.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import torch.distributed as dist

from training.run import run

if __name__ == "__main__":
    gc.freeze()  # what has been imported is no garbage
    first, *others = (Path(folder) for folder in sys.argv[1:])
    run(first)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{first}/meeting", rank=rank, world_size=size)
    for folder in others:
        run(folder)
    dist.destroy_process_group()
