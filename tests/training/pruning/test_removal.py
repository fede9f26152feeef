"""Removal against masking with 0 and 1, in every family, down to one unit and to none; every surviving number by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.pruning.families import (
    FAMILIES,
    answer,
    as_masks,
    groups_of,
    kinds_of,
    model_of,
    random_keep,
)
from training.backbones import blueprint, build_backbone
from training.errors import FoundryError
from training.pruning.masking import masked
from training.pruning.removal import prune
from training.pruning.removal_plan import plan_of_kept, plan_removal
from training.pruning.saving import pruned_class
from training.pruning.units import UnitGroup, unit_groups


def none_left(groups: list[UnitGroup]) -> dict[Any, Tensor]:
    return {group.key: torch.zeros(group.num_units, dtype=torch.bool) for group in groups}


def one_left(groups: list[UnitGroup]) -> dict[Any, Tensor]:
    keep = none_left(groups)
    for index, mask in enumerate(keep.values()):
        mask[index % len(mask)] = True
    return keep


def every_second_emptied(groups: list[UnitGroup]) -> dict[Any, Tensor]:
    keep = random_keep(groups)
    for key in list(keep)[::2]:
        keep[key].zero_()
    return keep


def one_kind_emptied(kind: str) -> Callable[[list[UnitGroup]], dict[Any, Tensor]]:
    def keep_of(groups: list[UnitGroup]) -> dict[Any, Tensor]:
        return none_left([group for group in groups if group.kind == kind])

    return keep_of


CHOICES: dict[str, Any] = {
    "some": random_keep,
    "one": one_left,
    "none": none_left,
    "mixed": every_second_emptied,
    "no heads": one_kind_emptied("heads"),
    "no neurons": one_kind_emptied("ffn"),
}


def masked_answer(backbone: Any, keep: dict[Any, Tensor]) -> Tensor:
    whole = {group.key: torch.ones(group.num_units, dtype=torch.bool) for group in groups_of(backbone)}
    kinds = kinds_of(any(kind == "norm" for kind, _ in whole))
    with torch.no_grad(), masked(backbone, as_masks(whole | keep), kinds):
        return answer(backbone)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", FAMILIES)
def test_pruned_equals_masked(name: str, choice: str) -> None:
    backbone = model_of(name)
    keep = CHOICES[choice](groups_of(backbone))
    wanted = masked_answer(backbone, keep)
    pruned = prune(backbone, keep)
    with torch.no_grad():
        found, whole = answer(pruned), answer(backbone)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)
    assert (found - whole).abs().max() > 1e-3
    plan = plan_of_kept(backbone, keep)
    assert sum(parameter.numel() for parameter in pruned.parameters()) == plan.kept < plan.params
    assert not any(parameter.is_meta for parameter in [*pruned.parameters(), *pruned.buffers()])


@pytest.mark.parametrize("name", FAMILIES)
def test_what_survives_is_unchanged_bit_by_bit(name: str) -> None:
    """The slow reference picks rows and columns by index, from each class's own names."""
    backbone = model_of(name)
    keep = random_keep(groups_of(backbone))
    before = {key: digest(value) for key, value in backbone.state_dict().items()}
    pruned = prune(backbone, keep)
    wanted = picked(backbone, keep)
    found = {key: digest(value) for key, value in pruned.state_dict().items()}
    assert found == {key: digest(value) for key, value in wanted.items()}
    assert {key: digest(value) for key, value in backbone.state_dict().items()} == before
    places = {value.data_ptr() for value in backbone.state_dict().values()}
    assert not places & {value.data_ptr() for value in pruned.state_dict().values()}


def digest(tensor: Tensor) -> str:
    data = tensor.detach().contiguous().numpy()
    return hashlib.sha256(f"{data.dtype}{data.shape}".encode() + data.tobytes()).hexdigest()


def picked(backbone: Any, keep: dict[Any, Tensor]) -> dict[str, Tensor]:
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    columns: dict[str, dict[str, list[int]]] = {}
    for (kind, name), mask in keep.items():
        units = [index for index, kept in enumerate(mask.tolist()) if kept]
        module, block = backbone.get_submodule(name), name.rpartition(".")[0]
        if kind == "norm":
            if len(units) == len(mask):
                continue
            for last in ("weight", "bias"):
                state[f"{name}.linear.0.{last}"] = state.pop(f"{name}.linear.{last}")[units]
            state[f"{name}.linear.1.places"] = torch.tensor(units)
        elif kind == "heads":
            width = module.to_q.out_features // module.heads
            rows = [head * width + i for head in units for i in range(width)]
            for part in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"):
                for key in (f"{name}.{part}.weight", f"{name}.{part}.bias"):
                    if key in state:
                        state[key] = state[key][rows]
            for part in ("to_out.0", "to_add_out"):
                if f"{name}.{part}.weight" in state:
                    state[f"{name}.{part}.weight"] = state[f"{name}.{part}.weight"][:, rows]
            columns.setdefault(block, {})["heads"] = rows
        elif name.endswith("act_mlp"):
            for last in ("weight", "bias"):
                state[f"{block}.proj_mlp.{last}"] = state[f"{block}.proj_mlp.{last}"][units]
            columns.setdefault(block, {})["ffn"] = units
        else:
            gated = type(module.net[0]).__name__ == "GEGLU"
            rows = units + [len(mask) + unit for unit in units] if gated else units
            for last in ("weight", "bias"):
                state[f"{name}.net.0.proj.{last}"] = state[f"{name}.net.0.proj.{last}"][rows]
            state[f"{name}.net.2.weight"] = state[f"{name}.net.2.weight"][:, units]
    for block, both in columns.items():
        if block.startswith("single"):
            weight = state[f"{block}.proj_out.weight"]
            first = weight.shape[0]
            state[f"{block}.proj_out.weight"] = weight[:, both["heads"] + [first + i for i in both["ffn"]]]
    return state


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pruned_backbone_can_be_pruned_again(name: str) -> None:
    backbone = model_of(name)
    first = random_keep(groups_of(backbone), 0.8)
    once = prune(backbone, first)
    second = every_second_emptied(groups_of(once))
    twice = prune(once, second)
    both = {key: mask.clone() for key, mask in first.items()}
    for key, mask in second.items():
        both[key][first[key]] = mask
    at_once = prune(backbone, both)
    assert type(twice) is type(at_once) is pruned_class(backbone)
    assert twice.config["kept_units"] == at_once.config["kept_units"]
    state, wanted = twice.state_dict(), at_once.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in state.items())
    wanted_answer = masked_answer(once, second)
    with torch.no_grad():
        torch.testing.assert_close(answer(twice), wanted_answer, rtol=1e-4, atol=2e-5)


def test_pruned_models_train_in_every_parameter() -> None:
    for name in FAMILIES:
        backbone = model_of(name)
        pruned = prune(backbone, every_second_emptied(groups_of(backbone))).train()
        answer(pruned).square().mean().backward()
        assert not [key for key, parameter in pruned.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(
    "model",
    [
        "SDXL-tiny",
        "UNet-tiny",
        "PixArt-tiny",
        "PixArt-demo-h64-d4",
        "SD3-demo-h128-d4",
        "FLUX-demo-h64-d2-s4",
    ],
)
@pytest.mark.parametrize("sparsity", ["0.2", "0.5"])
def test_the_plan_counts_what_is_really_left(model: str, sparsity: str) -> None:
    backbone = build_backbone(model, 0)
    heads = [group.num_units for group in unit_groups(backbone, ("heads",))]
    kinds: Any = ("heads", "ffn") if max(heads) > 1 and sparsity == "0.5" else ("ffn",)
    if model.startswith("FLUX"):
        kinds = (*kinds, "norm")
    plan = plan_removal(blueprint(model), sparsity, kinds)
    keep = {each.group.key: torch.arange(each.group.num_units) >= each.removed for each in plan.groups}
    pruned = prune(backbone, keep)
    assert sum(parameter.numel() for parameter in pruned.parameters()) == plan.kept < plan.params
    assert sum(group.num_units for group in unit_groups(pruned, kinds)) == plan.units - plan.removed_units


@pytest.mark.parametrize(
    ("model", "kinds"), [("SDXL-stock", ("heads", "ffn")), ("FLUX.1-dev", ("heads", "ffn", "norm"))]
)
def test_large_models_have_the_planned_size(model: str, kinds: Any) -> None:
    backbone = blueprint(model)
    plan = plan_removal(backbone, "0.2", kinds)
    units: dict[str, dict[str, int]] = {}
    for each in plan.groups:
        units.setdefault(each.group.kind, {})[each.group.name] = each.kept
    with torch.device("meta"):
        pruned = pruned_class(backbone).from_config({**backbone.config, "kept_units": units})
    assert sum(parameter.numel() for parameter in pruned.parameters()) == plan.kept


def test_precision_mode_and_whole_modules_stay() -> None:
    backbone = model_of("flux").to(torch.bfloat16).train()
    keep = random_keep(groups_of(backbone))
    whole: Any = ("heads", "transformer_blocks.1.attn")
    keep[whole] = torch.ones_like(keep[whole])
    pruned = prune(backbone, keep)
    assert pruned.training
    assert pruned.dtype == torch.bfloat16
    assert pruned.transformer_blocks[0].norm1.linear[1].places.dtype == torch.int64
    assert whole[1] not in pruned.config["kept_units"]["heads"]
    single = pruned.single_transformer_blocks[0]
    assert sum(single.proj_out._tp_packed_row_blocks) == single.proj_out.in_features
    assert single.proj_out._tp_packed_row_blocks[1] == single.proj_mlp.out_features


def test_what_cannot_be_removed_is_told() -> None:
    backbone = model_of("pixart")
    with pytest.raises(FoundryError, match="no 'heads/transformer_blocks.0.atn1'; did you mean"):
        prune(backbone, {("heads", "transformer_blocks.0.atn1"): torch.ones(2, dtype=torch.bool)})
    with pytest.raises(FoundryError, match=r"torch.float32 of shape \[2\] found, torch.bool of shape \[2\]"):
        prune(backbone, {("heads", "transformer_blocks.0.attn1"): torch.ones(2)})
    with pytest.raises(FoundryError, match="meta device, without values"):
        prune(blueprint("PixArt-tiny"), {})
