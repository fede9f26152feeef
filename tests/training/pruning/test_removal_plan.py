"""What a removal takes away: the tables of sheet section 8, on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from training.backbones import blueprint
from training.errors import FoundryError
from training.pruning.removal_plan import plan_removal

HEADS_FFN: tuple[Any, ...] = ("heads", "ffn")
ALL: tuple[Any, ...] = ("heads", "ffn", "norm")


@pytest.mark.parametrize(
    ("model", "kinds", "legacy", "sparsity", "removed", "share", "left"),
    [
        ("SDXL-stock", HEADS_FFN, False, "0.1", 218_465_280, "8.509%", 2_348_998_404),
        ("SDXL-stock", HEADS_FFN, False, "0.2", 436_930_560, "17.018%", 2_130_533_124),
        ("FLUX.1-schnell", HEADS_FFN, False, "0.1", 932_668_124, "7.843%", 10_958_510_436),
        ("FLUX.1-schnell", HEADS_FFN, False, "0.2", 1_745_769_400, "14.681%", 10_145_409_160),
        ("FLUX.1-schnell", ALL, False, "0.1", 1_255_665_008, "10.560%", 10_635_513_552),
        ("FLUX.1-schnell", ALL, False, "0.2", 2_391_646_394, "20.113%", 9_499_532_166),
        ("FLUX.1-schnell", ALL, True, "0.1", 753_349_962, "6.335%", 11_137_828_598),
        ("FLUX.1-schnell", ALL, True, "0.2", 1_387_074_689, "11.665%", 10_504_103_871),
    ],
)
def test_the_published_removals(
    model: str, kinds: Any, legacy: bool, sparsity: str, removed: int, share: str, left: int
) -> None:
    plan = plan_removal(blueprint(model), sparsity, kinds, legacy=legacy)
    assert (plan.removed, plan.kept) == (removed, left)
    assert f"{plan.removed / plan.params:.3%}" == share


@pytest.mark.parametrize(
    ("model", "kinds", "sparsity", "kept"),
    [
        ("SDXL-stock", ("heads",), 0.1, {10: 9, 20: 18}),
        ("SDXL-stock", ("heads",), 0.2, {10: 8, 20: 16}),
        ("FLUX.1-schnell", ALL, 0.1, {24: 21, 12_288: 11_059, 18_432: 16_588, 9_216: 8_294}),
        ("FLUX.1-schnell", ALL, 0.2, {24: 19, 12_288: 9_830, 18_432: 14_745, 9_216: 7_372}),
    ],
)
def test_units_kept_a_layer(model: str, kinds: Any, sparsity: float, kept: dict[int, int]) -> None:
    plan = plan_removal(blueprint(model), sparsity, kinds)
    assert {each.group.num_units: each.kept for each in plan.groups} == kept


def test_kinds_may_differ_and_are_told_apart() -> None:
    plan = plan_removal(blueprint("SDXL-stock"), {"heads": 0, "ffn": "0.25"})
    assert plan.of_kind("heads").removed == plan.of_kind("heads").removed_units == 0
    assert plan.of_kind("ffn").removed_units == 332_800 // 4
    assert plan.of_kind("ffn").removed == plan.removed == 1_229_465_600 // 4
    assert plan.units == 2_600 + 332_800


def test_a_global_plan_counts_by_scores() -> None:
    backbone = blueprint("PixArt-demo-h64-d4")
    names = [f"transformer_blocks.{i}.{part}" for i in range(4) for part in ("attn1", "attn2")]
    scores: dict[Any, torch.Tensor] = {
        ("heads", name): torch.tensor([2.0 * i, 2.0 * i + 1]) for i, name in enumerate(names)
    }
    plan = plan_removal(backbone, 0.25, ("heads",), "global", scores=scores)
    assert [each.kept for each in plan.groups] == [0, 0, 2, 2, 2, 2, 2, 2]
    assert plan.removed == 4 * plan.groups[0].group.parameters_per_unit


@pytest.mark.parametrize(
    ("sparsity", "kinds", "scope", "says"),
    [
        (1, HEADS_FFN, "layer", "sparsity: 1 found, allowed is 0 to less than 1"),
        (-0.1, HEADS_FFN, "layer", "sparsity: -0.1 found"),
        ("many", HEADS_FFN, "layer", "sparsity: 'many' is no finite number"),
        (0.6, ("heads",), "layer", "heads: keeping 0.4 of 2 units leaves none in any module"),
        ({"heads": 0.1}, HEADS_FFN, "layer", "given for heads, kinds are heads, ffn"),
        (0.2, HEADS_FFN, "global", "give the scores of a mask file"),
    ],
)
def test_impossible_plans_are_told(sparsity: Any, kinds: Any, scope: Any, says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        plan_removal(blueprint("PixArt-tiny"), sparsity, kinds, scope)


def test_scores_that_do_not_fit_are_told() -> None:
    backbone = blueprint("PixArt-tiny")
    first: Any
    second: Any
    first, second = ("heads", "transformer_blocks.0.attn1"), ("heads", "transformer_blocks.0.attn2")
    with pytest.raises(FoundryError, match=r"'heads/transformer_blocks.0.attn2' is missing, 2 numbers"):
        plan_removal(backbone, 0.5, ("heads",), "global", scores={first: torch.zeros(2)})
    scores: Any = {first: torch.zeros(2), second: torch.zeros(3)}
    with pytest.raises(FoundryError, match=r"attn2' has shape \[3\], 2 numbers"):
        plan_removal(backbone, 0.5, ("heads",), "global", scores=scores)
