"""Trainings in processes of their own that are killed at random moments. A fork server imports torch once for all."""

from __future__ import annotations

import gc
import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training.run import run
from training.run_folder import RunFolder

PRELOAD = [
    "torch",
    "diffusers",
    "training.run",
    "training.objectives.diffusion",
    "training.model_folders.export",
]


def _train(path: Path) -> None:
    gc.freeze()  # what the server had imported is no garbage
    torch.set_num_threads(1)
    run(path)


@contextmanager
def training_process(path: Path) -> Iterator[Any]:
    """A process that trains the folder; killed at the end where it still runs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_train, args=(path,))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def newest(folder: RunFolder) -> int:
    """Images seen at the newest checkpoint, 0 where there is none."""
    return max((int(path.name) for path in folder.checkpoints.glob("[0-9]*")), default=0)


def kill_at_random(folder: RunFolder, kills: int, every: int, seed: int) -> int:
    """Start the run and kill it with signal 9, so many times; returns how often that left half a checkpoint.

    The run saves ``every`` so many images. Half of the kills wait for one to three new checkpoints, so that the run
    goes on; the others come at any moment, but let no more than three pass. A life is thus short on any machine.
    """
    moments = random.Random(seed)
    half_written = 0
    for number in range(kills):
        wanted = newest(folder) + every * moments.randint(1, 3)
        patience = 60.0 if number % 2 == 0 else moments.uniform(0, 0.6)
        with training_process(folder.path) as process:
            deadline = time.monotonic() + patience
            while newest(folder) < wanted and time.monotonic() < deadline:
                assert process.is_alive(), folder.read_progress().error
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.02))  # anywhere in a step or in the writing of the next one
        assert not folder.done_path.exists(), "the run is too short for so many kills"
        half_written += any(folder.checkpoints.glob(".*.tmp"))
    return half_written


def assert_bit_equal(found: RunFolder, expected: RunFolder, parts: tuple[str, ...]) -> None:
    """The same weights, loss curve and digest."""
    for part in parts:
        tensors = load_file(found.model / part)
        for name, value in load_file(expected.model / part).items():
            assert torch.equal(tensors[name], value), name
    losses = [
        [(row["images_seen"], row["loss"], row["grad_norm"]) for row in folder.read_metrics().to_pylist()]
        for folder in (found, expected)
    ]
    assert losses[0] == losses[1]
    results = [folder.read_done() for folder in (found, expected)]
    assert results[0] is not None
    assert results[1] is not None
    assert results[0].model_digest == results[1].model_digest
