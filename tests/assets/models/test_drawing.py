"""Pictures of held-out prompts: the same wherever they are drawn, in the order they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from assets.graph.interfaces import BatchWorker, Resources, WorkItem
from assets.models.drawing import (
    DrawingPlace,
    Texts,
    draw_held_out,
    drawing_resources,
    pictures_of,
)
from orchestration.resources.compute import InlineCompute
from training.backbones import build_backbone
from training.conditioning import Condition
from training.model_folders.denoiser import Denoiser, sample_with
from training.packaged_models import SHIPPED_AUTOENCODER

PROMPTS = pa.table({"row": [4, 2, 0, 1, 3], "seed": [11, 12, 13, 14, 15]})
DIM = 384


def load() -> Denoiser:
    return Denoiser.from_parts(build_backbone("PixArt-tiny", 0).eval(), SHIPPED_AUTOENCODER, "flow")


@cache
def states() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 5, DIM)).astype(np.float32)


def texts() -> Texts:
    """Texts by row: any numbers will do."""

    def read(prompts: pa.Table) -> Condition:
        rows = np.append(prompts["row"].to_numpy(), 5)
        return Condition.of_arrays(states()[rows], np.ones((len(rows), 5), bool)).last_as_null()

    return read


class Backwards(InlineCompute):
    """Answers the last item first, as workers of a cluster may, and counts how often a model is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.built = 0

    def map_shards(
        self,
        worker: BatchWorker,
        items: Sequence[WorkItem],
        resources: Resources,
        log: Callable[[str], None],
    ) -> Iterator[pa.Table]:
        self.built += 1
        yield from super().map_shards(worker, items[::-1], resources, log)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_prompt_is_drawn_by_every_sampling_in_order(batch_size: int) -> None:
    compute = Backwards()
    place = DrawingPlace(compute, Resources(batch_size=batch_size), texts, print)
    samplings = [(1, 1.0), (3, 2.5)]
    drawn = draw_held_out(place, load, PROMPTS, samplings)
    assert drawn["row"].to_pylist() == PROMPTS["row"].to_pylist() * 2
    assert drawn["num_steps"].to_pylist() == [1] * 5 + [3] * 5
    assert compute.built == 1
    for (steps, guidance), found in zip(samplings, np.split(pictures_of(drawn), 2), strict=True):
        one_by_one = [
            sample_with(load(), texts()(PROMPTS.slice(row, 1)), PROMPTS["seed"].to_pylist()[row : row + 1], steps, guidance)[0]
            for row in range(PROMPTS.num_rows)
        ]  # fmt: skip
        # how many are drawn together rounds differently: at most the last of 8 bits
        assert np.abs(found.astype(int) - np.stack(one_by_one).astype(int)).max() <= 1


def test_a_comparison_takes_an_accelerator_s_worker_or_this_process() -> None:
    on_cpu = drawing_resources(Resources(workers=4, threads=2))
    assert (on_cpu.workers, on_cpu.actors, on_cpu.threads) == (1, 1, 2)
    assert on_cpu.inline_rows is not None
    assert on_cpu.inline_rows >= 2 * 48 * 4  # a student and its teacher in four numbers of steps
    assert drawing_resources(Resources(gpus=1)).inline_rows is None
