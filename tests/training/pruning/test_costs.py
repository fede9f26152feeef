"""Costs of units: parameters as counted elsewhere, and times by a clock that the layers themselves advance."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from tests.training.pruning.families import FAMILIES, kinds_of, model_of
from training.backbones import blueprint
from training.errors import FoundryError
from training.pruning import costs as costs_module
from training.pruning import keep_best, magnitude_scores, unit_costs, unit_groups
from training.pruning._layers import layers_of


def test_parameters_are_those_of_the_groups_and_need_no_values() -> None:
    backbone = blueprint("FLUX.1-dev")
    kinds: Any = ("heads", "ffn", "norm")
    found = unit_costs(backbone, "parameters", kinds)
    assert found == {group.key: group.parameters_per_unit for group in unit_groups(backbone, kinds)}
    assert set(found.values()) == {3_146_496, 1_573_248, 6_145, 3_073}


class WorkClock:
    """A linear layer takes as many milliseconds as it has weights, a normalisation, which no unit shortens, a second."""

    def __init__(self, backbone: nn.Module) -> None:
        self.now = 0.0
        for module in backbone.modules():
            if isinstance(module, (nn.Linear, nn.LayerNorm)):
                module.register_forward_hook(self._work)

    def _work(self, module: Any, _inputs: Any, _output: Any) -> None:
        self.now += module.weight.numel() / 1000 if isinstance(module, nn.Linear) else 1.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize("name", FAMILIES)
def test_times_are_shared_out_among_units(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, kinds = model_of(name), kinds_of(name == "flux")
    monkeypatch.setattr(costs_module, "time", WorkClock(backbone))
    found = unit_costs(backbone, "milliseconds", kinds, runs=2)
    for layer in layers_of(backbone):
        biases = sum(backbone.get_submodule(each).bias is not None for each in layer.inputs)
        parameters = next(g for g in unit_groups(backbone, kinds) if g.key == layer.key).parameters_per_unit
        weights = parameters - biases * layer.width * layer.row_blocks
        assert found[layer.key] == pytest.approx(weights), layer.key


def test_measured_times_rank_units_and_leave_no_hook() -> None:
    backbone = model_of("pixart")
    costs = unit_costs(backbone, "milliseconds", runs=1)
    assert all(0 < cost < 1000 for cost in costs.values())
    scores = magnitude_scores(backbone, ("heads", "ffn"))
    kept = keep_best(scores, {"heads": 0.5, "ffn": 0.5}, "global", costs=costs)
    assert sum(int(mask.sum()) for (kind, _), mask in kept.items() if kind == "ffn") > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


def test_mistakes_by_name() -> None:
    with pytest.raises(FoundryError, match="by: 'seconds' found, allowed are parameters, milliseconds"):
        unit_costs(model_of("pixart"), "seconds")
    with pytest.raises(FoundryError, match="runs: 0 found"):
        unit_costs(model_of("pixart"), "milliseconds", runs=0)
    with pytest.raises(FoundryError, match="lies on the meta device"):
        unit_costs(blueprint("PixArt-tiny"), "milliseconds")
