"""No surviving weight changes in pruning, and any that did would be named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.pruning.families import FAMILIES, answer, groups_of, model_of, random_keep
from tests.training.pruning.test_removal import CHOICES, every_second_emptied
from training.backbones import blueprint
from training.errors import FoundryError
from training.pruning.removal import prune
from training.pruning.verification import changed_weights, digest


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", FAMILIES)
def test_no_surviving_weight_has_changed(name: str, choice: str) -> None:
    backbone = model_of(name)
    keep = CHOICES[choice](groups_of(backbone))
    assert changed_weights(backbone, prune(backbone, keep), keep) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_backbone_that_is_pruned_again(name: str) -> None:
    once = prune(model_of(name), random_keep(groups_of(model_of(name)), 0.8))
    keep = every_second_emptied(groups_of(once))
    assert changed_weights(once, prune(once, keep), keep) == []
    assert changed_weights(once, prune(once, {}), {}) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_one_changed_number_names_its_tensor(name: str) -> None:
    """The smallest change there is, in about thirty tensors of each family."""
    backbone = model_of(name)
    keep = random_keep(groups_of(backbone))
    pruned = prune(backbone, keep)
    tensors = {**dict(pruned.named_parameters()), **dict(pruned.named_buffers())}
    for key, tensor in list(tensors.items())[:: len(tensors) // 30]:
        flat = tensor.detach().view(-1)
        before = flat[-1].clone()
        flat[-1] = torch.nextafter(before, before + 1) if flat.is_floating_point() else before + 1
        assert changed_weights(backbone, pruned, keep) == [key]
        flat[-1] = before
    assert changed_weights(backbone, pruned, keep) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_is_found(name: str) -> None:
    backbone = model_of(name)
    keep = every_second_emptied(groups_of(backbone))
    pruned = prune(backbone, keep).train()
    optimizer = torch.optim.SGD(pruned.parameters(), lr=1.0)
    answer(pruned).square().sum().backward()
    optimizer.step()
    changed = changed_weights(backbone, pruned, keep)
    moved = {key for key, value in pruned.named_parameters() if value.grad.abs().max() > 1e-4}
    assert moved <= set(changed) <= {key for key, _ in pruned.named_parameters()}
    assert len(moved) > len(list(pruned.parameters())) / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_other_units_than_those_kept_are_found(name: str) -> None:
    """As many units, but not the same ones: shapes agree, numbers do not."""
    backbone = model_of(name)
    keep = random_keep(groups_of(backbone))
    others = {key: mask.flip(0) for key, mask in keep.items()}
    differing = [key for key, mask in keep.items() if not torch.equal(mask, others[key])]
    changed = changed_weights(backbone, prune(backbone, others), keep)
    assert len(changed) >= len(differing) > 0


def test_missing_and_unknown_tensors_are_named() -> None:
    backbone = model_of("pixart")
    keep = random_keep(groups_of(backbone))
    pruned = prune(backbone, keep)
    pruned.scale_shift_table, pruned.extra = None, torch.nn.Parameter(torch.ones(1))
    assert changed_weights(backbone, pruned, keep) == ["extra", "scale_shift_table"]


def test_precision_counts() -> None:
    backbone = model_of("flux").to(torch.bfloat16)
    keep = random_keep(groups_of(backbone))
    assert changed_weights(backbone, prune(backbone, keep), keep) == []
    assert len(changed_weights(backbone, prune(backbone, keep).float(), keep)) > 50
    assert digest(torch.zeros(2)) != digest(torch.zeros(1, 2))
    assert digest(torch.zeros(2)) != digest(torch.zeros(2, dtype=torch.int32))


def test_mistakes_are_told() -> None:
    backbone: Any = model_of("pixart")
    key: Any = ("heads", "transformer_blocks.0.attn1")
    with pytest.raises(FoundryError, match=r"torch.bool of shape \[3\] found, torch.bool of shape \[2\] is"):
        changed_weights(backbone, backbone, {key: torch.ones(3, dtype=torch.bool)})
    with pytest.raises(FoundryError, match="no such module"):
        changed_weights(backbone, backbone, {("heads", "attn9"): torch.ones(3, dtype=torch.bool)})
    with pytest.raises(FoundryError, match="meta device, without values"):
        changed_weights(blueprint("PixArt-tiny"), blueprint("PixArt-tiny"), {})
