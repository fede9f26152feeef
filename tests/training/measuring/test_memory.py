"""Peak memory of a forward pass against sums by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.pruning.families import FAMILIES, groups_of, model_of, random_keep
from training.backbones import example_inputs
from training.measuring.memory import peak_memory_bytes, weight_bytes
from training.pruning import prune

FLOAT = 4


@dataclass
class Rows:
    """Inputs of an MLP."""

    x: Tensor

    def call(self, model: Any) -> Tensor:
        """One forward pass."""
        output: Tensor = model(self.x)
        return output


class Mlp(nn.Module):
    """A hidden layer between two that are narrower; ``in_place`` activation, or a view of the input first."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(10, 100), nn.Linear(100, 20)
        self.activation = nn.ReLU(inplace=in_place)

    def forward(self, x: Tensor) -> Tensor:
        """x to 100 to 20 channels."""
        hidden = self.wide(x.view(-1, 10))
        hidden = self.activation(hidden)
        return self.narrow(hidden)


WEIGHTS = FLOAT * (10 * 100 + 100 + 100 * 20 + 20)


@pytest.mark.parametrize(
    ("in_place", "live"),
    [
        (False, 7 * 100 + 7 * 100),  # before and after the activation, both alive while it runs
        (True, 7 * 100 + 7 * 20),  # one hidden layer, and the output beside it
    ],
)
def test_an_mlp_by_hand(in_place: bool, live: int) -> None:
    model = Mlp(in_place=in_place)
    assert weight_bytes(model) == WEIGHTS
    found = [peak_memory_bytes(model, Rows(torch.randn(7, 10))) for _ in range(2)]
    assert found == [WEIGHTS + FLOAT * live] * 2


def test_what_is_there_before_is_not_counted() -> None:
    model = nn.Linear(10, 10, bias=False)
    table = torch.zeros(5)
    for name in ("table", "same"):  # shared: counted once
        model.register_buffer(name, table)
    assert weight_bytes(model) == FLOAT * (100 + 5)

    class Same(Rows):
        def call(self, model: Any) -> Tensor:
            return self.x.view(-1)[:3]

    assert peak_memory_bytes(model, Same(torch.randn(1000, 10))) == FLOAT * 105
    assert peak_memory_bytes(model, Rows(torch.randn(1000, 10))) == FLOAT * (105 + 10_000)


def test_a_larger_batch_takes_more_and_gradients_play_no_part() -> None:
    model = model_of("pixart").train()
    one, two = (peak_memory_bytes(model, example_inputs(model, batch, num_tokens=5)) for batch in (1, 2))
    weights = weight_bytes(model)
    assert weights < one < two
    assert two - weights == pytest.approx(2 * (one - weights), rel=0.1)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pruned_backbone_takes_less(name: str) -> None:
    backbone = model_of(name)
    pruned = prune(backbone, random_keep(groups_of(backbone), 0.4))
    dense, less = (peak_memory_bytes(m, example_inputs(m, 2, num_tokens=5)) for m in (backbone, pruned))
    assert less < dense
    assert weight_bytes(pruned) < weight_bytes(backbone)
