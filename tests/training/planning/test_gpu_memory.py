"""Planned memory against what real steps of the loop allocate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.planning.measured import kept_bytes, step_peak, unseen_bytes
from training.backbones import blueprint, hidden_matrices
from training.measuring.synthetic import Case, build_loop
from training.planning import blocks
from training.planning.gpu_memory import Shares, memory_of, sizes, state_bytes
from training.planning.live_bytes import Row, highest
from training.planning.simulation import Setting, simulate
from training.recipes.adapters import OptimizerOptions


@pytest.mark.parametrize(
    ("case", "checkpointing", "passes"),
    [
        (Case("UNet-demo-c16", 4, "fp32", ema=False), False, 1),
        (Case("UNet-tiny", 16, "bf16", ema=True), True, 1),
        (Case("PixArt-demo-h64-d4", 8, "bf16", ema=True), False, 1),
        (Case("PixArt-demo-h48-d2", 16, "fp32", ema=True), True, 2),
    ],
    ids=lambda value: value.backbone if isinstance(value, Case) else str(value),
)
def test_planned_memory_is_within_a_tenth_of_a_measured_step(
    case: Case, checkpointing: bool, passes: int, tmp_path: Path
) -> None:
    loop = build_loop(case, tmp_path, "cpu", {"activation_checkpointing": checkpointing})
    loop.recipe = loop.recipe.model_copy(update={"micro_batches": passes})
    images = case.batch_size // passes
    step = step_peak(loop) + unseen_bytes(loop, images)
    measured = kept_bytes(loop) + step
    setting = Setting(case.backbone, case.precision, checkpointing, "cpu")
    planned = memory_of(setting, Shares(1, "ddp", images, passes), int(case.ema))
    assert planned.total == pytest.approx(measured, rel=0.1)
    coming = planned.gradients + planned.activations + planned.autocast_copies
    assert coming == pytest.approx(step, rel=0.1)  # not hidden behind what is kept


def test_pasted_blocks_leave_what_walking_through_all_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    for backbone, checkpointing in (("UNet-tiny", False), ("PixArt-tiny", True)):
        setting = Setting(backbone, "bf16", checkpointing)
        pasted = simulate.__wrapped__(setting)
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "REPEATED", ())
            walked = simulate.__wrapped__(setting)
        for images in (1, 32):
            peaks = [
                float((line.per_image * images + line.wide + line.narrow).max()) for line in (pasted, walked)
            ]
            assert peaks[0] == pytest.approx(peaks[1], rel=0.02)
        assert pasted.wide[-1] == pytest.approx(walked.wide[-1], rel=0.001)


def test_every_gradient_is_there_at_the_end() -> None:
    gradients = 4 * sizes("PixArt-tiny").parameters
    assert simulate(Setting("PixArt-tiny", "fp32")).wide[-1] == pytest.approx(gradients, rel=0.001)


def test_a_gpu_computes_norms_in_fp32_and_so_holds_more() -> None:
    """Of a UNet of many convolutions and little attention, of which a CPU holds more in bf16."""
    on_gpu, on_cpu = (
        memory_of(Setting("UNet-demo-w32-inner", "bf16", device=device), Shares(images_per_pass=32), 0)
        for device in ("gpu", "cpu")
    )
    assert on_gpu.activations > 1.1 * on_cpu.activations
    assert on_gpu.weights == on_cpu.weights


def test_shards_divide_what_is_kept_and_gather_the_largest_block() -> None:
    setting = Setting("PixArt-demo-h96-d5", "bf16")
    copies = memory_of(setting, Shares(4, "ddp", 8), 2)
    shards = memory_of(setting, Shares(4, "fsdp", 8), 2)
    for part in ("weights", "optimizer", "averages"):
        assert getattr(shards, part) == getattr(copies, part) / 4
    size, model = sizes("PixArt-demo-h96-d5"), blueprint("PixArt-demo-h96-d5")
    block = sum(p.numel() for p in model.transformer_blocks[0].parameters())
    patches = sum(p.numel() for p in model.pos_embed.parameters())  # a block of its own
    assert (size.largest_block, size.outside_blocks) == (block, size.parameters - 5 * block - patches)
    assert shards.gathered == 8 * (size.outside_blocks + 2 * block)
    assert copies.averages == 2 * copies.weights


def test_a_second_pass_finds_the_gradients_of_the_first() -> None:
    setting = Setting("PixArt-demo-h96-d5", "fp32")
    once, twice = (memory_of(setting, Shares(images_per_pass=64, passes=passes), 0) for passes in (1, 2))
    assert once.gradients < 0.1 * once.weights  # most is in use before gradients appear
    assert twice.gradients >= twice.weights


def test_highest_rows_keep_the_peak_of_every_batch() -> None:
    random = torch.Generator().manual_seed(3)
    rows: list[Row] = [
        (row[0], row[1], row[2]) for row in torch.randint(0, 9, (60, 3), generator=random).tolist()
    ]
    kept = highest(rows)
    for factors in ((1, 1, 1), (5, 0, 1), (0, 1, 0), (0.1, 3, 0.2)):
        peak = [max(float(np.dot(row, factors)) for row in some) for some in (rows, kept)]
        assert peak[0] == peak[1]
    assert len(kept) < 20


def test_optimisers_keep_what_they_keep() -> None:
    """Two moments of every parameter, one of what Muon takes, and the 8-bit numbers as their own test counts them."""
    size, model = sizes("UNet-tiny"), blueprint("UNet-tiny")
    assert state_bytes(size, OptimizerOptions()) == 8 * size.parameters
    assert state_bytes(size, OptimizerOptions(name="adamw8bit")) == pytest.approx(
        2 * size.parameters, rel=0.02
    )
    for convolutions in (True, False):
        taken = sum(matrix.numel() for matrix in hidden_matrices(model, convolutions=convolutions))
        options = OptimizerOptions(name="muon", convolutions=convolutions)
        assert 0 < taken < size.parameters
        assert state_bytes(size, options) == 8 * size.parameters - 4 * taken
