"""How long a training stands still to save, beside copying the bytes alone and beside torch.save; CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.loop.loop import MOST_SAVING
from training.measuring.synthetic import Case, build_loop

pytestmark = pytest.mark.benchmark
ROUNDS = 4


def own_seconds(call: Callable[[], object]) -> float:
    """CPU seconds of this thread alone, which is the one that trains."""
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


@pytest.mark.parametrize(
    "case", [Case("PixArt-gpu-h256-d8", 32), Case("UNet-gpu-c64", 8)], ids=lambda case: case.backbone
)
def test_training_hardly_waits_for_a_save(case: Case, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    loop = build_loop(case, tmp_path, "cpu", {"keep_checkpoints": 1})
    loop._step()
    stalls, whole = [], []
    with loop.saver:
        for number in range(ROUNDS):
            loop.images_seen += 1
            begun = time.process_time()
            stalls.append(own_seconds(lambda: loop._checkpoint(at_once=False)))
            loop.saver.finish()
            whole.append(time.process_time() - begun)
            assert loop.saver.newest == loop.images_seen, number
    host = loop.saver._host
    source = {name: value.clone() for name, value in host.items()}
    copying = min(own_seconds(lambda: [host[n].copy_(v) for n, v in source.items()]) for _ in range(ROUNDS))
    peer = min(own_seconds(lambda: torch.save(source, tmp_path / "peer.pt")) for _ in range(ROUNDS))
    size = sum(value.nbytes for value in host.values())
    every = loop.execution.checkpoint_every_seconds
    print(
        f"\n{case.backbone}, {size / 2**20:.0f} MiB: training waits {1e3 * min(stalls):.0f} ms of CPU for a save"
    )
    print(
        f"  (the first {1e3 * stalls[0]:.0f} ms), {min(stalls) / every:.3%} of the {every:g} s between two;"
    )
    print(
        f"  copying the bytes alone {1e3 * copying:.0f} ms, torch.save {1e3 * peer:.0f} ms without flushing;"
    )
    print(f"  with writing, hashing and flushing in the other thread {1e3 * min(whole):.0f} ms")
    assert min(stalls) / every < MOST_SAVING
    assert min(stalls) < peer
