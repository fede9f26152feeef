"""What is counted, and what is not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.pruning.metering import Meter, ScoringCost


class Hungry(nn.Module):
    """Holds on to 160 MB at its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor]:
        self.kept = self.kept or [torch.ones(40_000_000)]
        return (self.weight * x,)


def test_the_meter_tells_memory_and_adds_up() -> None:
    meter, model = Meter(torch.device("cpu")), Hungry()
    with meter.on(model):
        model(torch.ones(2))[0].sum().backward()
        with torch.no_grad():
            model(torch.ones(3))
    model(torch.ones(5))
    cost = meter.cost
    assert (cost.network_evaluations, cost.backward_evaluations) == (5, 2)
    assert 120e6 < cost.peak_memory_bytes < 400e6
    meter.before = ScoringCost(100.0, 10, 20, 10**12)
    both = meter.cost
    assert (both.network_evaluations, both.backward_evaluations, both.peak_memory_bytes) == (15, 22, 10**12)
    assert 100 < both.seconds < 160
