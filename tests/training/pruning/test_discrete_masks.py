"""Which units are kept: exact counts, ties, scopes, costs, thresholds, and what is refused."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from training.errors import FoundryError
from training.pruning.discrete_masks import keep_above, keep_best, scope_named
from training.pruning.ratios import keep_count, ratio_of_sparsity

A: Any = ("heads", "a")
B: Any = ("heads", "b")
C: Any = ("ffn", "c")


def places(kept: dict[Any, Tensor]) -> dict[Any, list[int]]:
    return {key: mask.nonzero().flatten().tolist() for key, mask in kept.items()}


def test_counts_are_exact_floors() -> None:
    assert int(100 * 0.29) == 28  # what floating point makes of it
    assert keep_count(100, 0.29) == keep_count(100, "0.29") == 29
    assert (
        keep_count(10, 1 - 0.9) == 0
    )  # 0.09999999999999998: ratios are told, not computed in floating point
    assert keep_count(10, ratio_of_sparsity(0.9)) == 1
    for units in (10, 20, 24, 100, 12_288):
        for percent in range(1, 101):
            assert keep_count(units, percent / 100) == units * percent // 100
            assert keep_count(units, ratio_of_sparsity(percent / 100 if percent < 100 else 0)) == (
                units * (100 - percent) // 100 if percent < 100 else units
            )
    assert keep_count(9, Fraction(1, 3)) == 3


def test_global_ranks_a_kind_together_and_kinds_apart() -> None:
    scores = {
        A: torch.tensor([5.0, 1.0, 4.0]),
        C: torch.tensor([-90.0, -80.0]),
        B: torch.tensor([0.5, 9.0, -1.0]),
    }
    kept = keep_best(scores, {"heads": "0.5", "ffn": "0.5"}, "global")
    assert list(kept) == list(scores)
    assert places(kept) == {A: [0, 2], C: [1], B: [1]}
    assert all(mask.dtype == torch.bool for mask in kept.values())
    assert places(keep_best(scores, {"heads": "0.34", "ffn": 1}, "layer")) == {A: [0], C: [0, 1], B: [1]}


def test_against_a_slow_ranking() -> None:
    random = torch.Generator().manual_seed(0)
    scores = {A: torch.randn(7, generator=random), B: torch.randn(11, generator=random).bfloat16()}
    kept = keep_best(scores, {"heads": 0.45}, "global")
    every = [
        (-float(value), place, index)
        for place, key in enumerate(scores)
        for index, value in enumerate(scores[key])
    ]
    best = sorted(every)[: (18 * 45 // 100)]
    wanted = {
        key: sorted(index for _, place, index in best if place == number) for number, key in enumerate(scores)
    }
    assert places(kept) == wanted


def test_ties_go_to_the_earlier_and_negative_scores_are_no_ties() -> None:
    equal = {A: torch.zeros(3), B: torch.zeros(3)}
    assert places(keep_best(equal, {"heads": "0.5"}, "global")) == {A: [0, 1, 2], B: []}
    below = {A: torch.tensor([-3.0, -1.0, -2.0]), B: torch.tensor([-0.5, -4.0, -5.0])}
    assert places(keep_best(below, {"heads": "0.5"}, "global")) == {A: [1, 2], B: [0]}


def test_costs_turn_scores_into_score_per_cost() -> None:
    scores = {A: torch.tensor([3.0, -1.0]), B: torch.tensor([2.0, -0.9])}
    assert places(keep_best(scores, {"heads": "0.25"}, "global")) == {A: [0], B: []}
    costs = {A: 2.0, B: 1.0}
    assert places(keep_best(scores, {"heads": "0.25"}, "global", costs=costs)) == {A: [], B: [0]}
    # of the unwanted, the costly goes first: dividing would have kept it
    close = {A: torch.tensor([3.0, -0.8]), B: torch.tensor([2.0, -0.9])}
    assert places(keep_best(close, {"heads": "0.75"}, "global", costs=costs)) == {A: [0], B: [0, 1]}


def test_thresholds() -> None:
    scores = {A: torch.tensor([0.0, 0.1, -0.1]), C: torch.tensor([2.0, 3.0])}
    assert places(keep_above(scores, {"heads": 0.0, "ffn": 2.5})) == {A: [1], C: [1]}
    with pytest.raises(FoundryError, match="'heads' is 0.5, which keeps no unit; the highest score is 0.1"):
        keep_above(scores, {"heads": 0.5, "ffn": 0.0})


@pytest.mark.parametrize(
    ("scores", "ratios", "scope", "says"),
    [
        (
            {A: torch.zeros(2), B: torch.zeros(3)},
            {"heads": 0.3},
            "layer",
            "keeping 0.3 of 3 units leaves none in any",
        ),
        (
            {A: torch.zeros(2), B: torch.zeros(3)},
            {"heads": 0.1},
            "global",
            "of 5 units leaves none in all modules",
        ),
        ({A: torch.zeros(2)}, {"heads": 0}, "global", "ratios of heads: 0 found, allowed is more than 0"),
        ({A: torch.zeros(2)}, {"heads": 1.5}, "global", "ratios of heads: 1.5 found"),
        ({A: torch.zeros(2)}, {"heads": "a third"}, "global", "'a third' is no finite number"),
        ({A: torch.zeros(2)}, {"heads": math.nan}, "global", "'nan' is no finite number"),
        ({A: torch.zeros(2)}, {"heads": 0.5, "ffn": 0.5}, "layer", "given for ffn, heads, scored are heads"),
        (
            {A: torch.zeros(2), C: torch.zeros(1)},
            {"heads": 0.5},
            "layer",
            "given for heads, scored are ffn, heads",
        ),
        ({A: torch.tensor([1.0, math.nan])}, {"heads": 0.5}, "layer", "scores of heads/a: shape"),
    ],
)
def test_bad_input_is_told(scores: Any, ratios: Any, scope: Any, says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        keep_best(scores, ratios, scope)


def test_bad_costs_and_scopes_are_told() -> None:
    with pytest.raises(FoundryError, match="costs of heads/a: None found"):
        keep_best({A: torch.zeros(2)}, {"heads": 0.5}, "global", costs={})
    with pytest.raises(FoundryError, match="scope: 'block' found, allowed are global, layer"):
        scope_named("block")
