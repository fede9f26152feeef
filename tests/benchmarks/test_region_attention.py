"""What the detail renderer's rules cost in attention: a dense mask and blocks of queries beside plain attention, by turns in one run.

Shapes are FLUX's at 512 and 1,024 px: 200 tokens for the prompt and for each instance, head width 128; two of its 24 heads, since
time goes with their number. A step has 57 such attentions, of all heads, so that mask building is held against a lower bound of one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

from training.depth.detail_rendering import RegionMasks, Rules, TokenLayout, in_boxes
from training.depth.detail_rendering.attending import attend_in_blocks
from training.depth.detail_rendering.masks import allowed_pairs, blocks_of
from training.layout.boxes import BoxNorm

pytestmark = pytest.mark.benchmark
BUDGET, HEADS, OF_HEADS, HEAD_WIDTH, ATTENTIONS, ROUNDS = 200, 2, 24, 128, 57, 5
MOST_BUILDING = 0.01


def boxes_of(count: int) -> list[BoxNorm]:
    """So many boxes side by side in two rows, a third of a cell apart, over most of the picture."""
    columns = (count + 1) // 2
    return [
        (
            (column + 0.15) / columns,
            (row + 0.15) / 2,
            (column + 0.85) / columns,
            (row + 0.85) / 2,
        )
        for row in range(2)
        for column in range(columns)
    ][:count]


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def medians(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each, by turns."""
    found = [{name: seconds(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(row[name] for row in found) for name in runs}


@pytest.mark.parametrize("side_px", [512, 1024])
@pytest.mark.parametrize("instances", [2, 6, 10])
def test_masked_over_plain_attention(side_px: int, instances: int) -> None:
    torch.set_num_threads(1)
    grid = (side_px // 16, side_px // 16)
    layout = TokenLayout.of([in_boxes(boxes_of(instances), grid)], BUDGET, BUDGET)
    rules = Rules(strict_steps=1)
    query, key, value = torch.randn(3, 1, layout.num_tokens, HEADS, HEAD_WIDTH)
    attend = dispatch_attention_fn  # as models call it
    told = f"{side_px} px, {instances} instances, {layout.num_tokens} tokens:"
    for step, when in ((0, "strict"), (1, "later")):
        mode, masks = rules.mode(step, 0), RegionMasks(layout, rules)
        mask, blocks = masks.mask(step, 0), masks.blocks(step, 0)
        dense = partial(attend, query, key, value, attn_mask=mask)
        blocked = partial(attend_in_blocks, query, key, value, blocks)
        torch.testing.assert_close(blocked(), dense(), atol=1e-5, rtol=1e-4)
        found = medians({"plain": partial(attend, query, key, value), "dense": dense, "blocks": blocked})
        building = medians(
            {
                "mask": partial(allowed_pairs, layout, rules, mode),
                "blocks": partial(blocks_of, layout, rules, mode),
            }
        )
        a_step = found["plain"] * ATTENTIONS * OF_HEADS / HEADS
        told += (
            f" {when}: dense {found['dense'] / found['plain']:.2f}, blocks {found['blocks'] / found['plain']:.2f} of plain, "
            f"building {building['mask'] / a_step:.2%} and {building['blocks'] / a_step:.2%} of a step;"
        )
        assert max(building.values()) <= MOST_BUILDING * a_step
        if mode.strict:
            assert found["blocks"] < found["dense"]
    print(f"\n{told}")
