"""Tokens drawn from each row's own numbers, against the distribution that transformers would draw from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from evaluation.perception.hub.settings import Decoding
from evaluation.perception.hub.token_sampling import TokenChooser, invert_cumulative, row_seed, uniforms


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.6), (8, 0.9), (1, 1.0), (100, 0.01)])
def test_inversion_has_the_truncated_distribution(top_k: int, top_p: float) -> None:
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(3)) * 2
    warpers = LogitsProcessorList()
    if top_k:
        warpers.append(TopKLogitsWarper(min(top_k, 20)))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    expected = torch.softmax(warpers(torch.zeros(1, 1, dtype=torch.long), logits.clone()), dim=-1)[0]
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float32) + 0.5) / count  # an even grid: no luck in it
    drawn = invert_cumulative(logits.expand(count, -1), uniform, top_k, top_p)
    frequency = torch.bincount(drawn, minlength=20) / count
    assert (frequency - expected).abs().max() < 2e-3
    assert set(torch.unique(drawn).tolist()) <= set(torch.nonzero(expected).squeeze(1).tolist())


def test_temperature_is_applied_and_scores_are_the_models_own() -> None:
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(4)).expand(5000, -1).contiguous()
    chooser = TokenChooser(Decoding(mode="sample", temperature=0.3, top_k=0, max_new_tokens=1), range(5000))
    scores = chooser(torch.zeros(5000, 1, dtype=torch.long), logits)
    drawn = scores.argmax(dim=-1)
    expected = torch.softmax(
        TemperatureLogitsWarper(0.3)(torch.zeros(1, 1, dtype=torch.long), logits[:1]), -1
    )[0]
    frequency = torch.bincount(drawn, minlength=12) / 5000
    assert (frequency - expected).abs().max() < 0.03  # four standard deviations of 5000 draws
    assert (torch.isfinite(scores).sum(dim=-1) == 1).all()
    torch.testing.assert_close(chooser.logprobs[0], torch.log_softmax(logits, -1)[torch.arange(5000), drawn])


def test_a_row_draws_the_same_in_any_batch() -> None:
    decoding = Decoding(mode="sample", top_k=0, max_new_tokens=6)
    logits = torch.randn(6, 3, 30, generator=torch.Generator().manual_seed(5))
    together, alone = TokenChooser(decoding, [11, 12, 13]), TokenChooser(decoding, [12])
    empty = torch.zeros(3, 1, dtype=torch.long)
    for step in range(6):
        both = together(empty, logits[step]).argmax(-1)[1]
        assert both == alone(empty[:1], logits[step, 1:2]).argmax(-1)[0]


def test_seeds_and_numbers_depend_on_every_part() -> None:
    seeds = {
        row_seed(*parts)
        for parts in [
            (0, "s", "p", 0),
            (1, "s", "p", 0),
            (0, "t", "p", 0),
            (0, "s", "q", 0),
            (0, "s", "p", 1),
        ]
    }
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert (uniforms([7], 3) == uniforms([7, 8], 9)[:1, :3]).all()
    many = uniforms(range(4000), 2)
    assert abs(np.corrcoef(many.T)[0, 1]) < 0.05
    assert abs(many.mean() - 0.5) < 0.02
