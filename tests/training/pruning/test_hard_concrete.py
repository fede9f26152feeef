"""The relaxation against the sheet's numbers, against draws, and against derivatives by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from training.errors import FoundryError
from training.pruning.hard_concrete import HardConcrete, expected_l0, mean_l1, mean_sigmoid


def logits_of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def draws(count: int = 200_001) -> Tensor:
    """u spread evenly over [0, 1]."""
    return torch.linspace(0, 1, count, dtype=torch.float64)


def logit_at(constants: HardConcrete, mask: float) -> float:
    """logit of the s at which M reaches ``mask``."""
    return math.log((mask - constants.gamma) / (constants.zeta - mask))


def noise_bound(constants: HardConcrete) -> float:
    """Largest absolute n(u): ln((1 + delta) / delta)."""
    return math.log((1 + constants.delta) / constants.delta)


def certain_one(constants: HardConcrete) -> float:
    """The least lambda at which M = 1 whatever u is: 3.0889 for delta 0.5, 4.3881 for 0.1."""
    return constants.alpha * logit_at(constants, 1.0) + noise_bound(constants)


def certain_zero(constants: HardConcrete) -> float:
    """The largest lambda at which M = 0 whatever u is."""
    return constants.alpha * logit_at(constants, 0.0) - noise_bound(constants)


def share_below(constants: HardConcrete, logits: Tensor, mask: float) -> Tensor:
    """P(s (zeta - gamma) + gamma < mask): u at that point, n(u) = y being u = sigmoid(y) (1 + 2 delta) - delta."""
    y = constants.alpha * logit_at(constants, mask) - logits
    return (torch.sigmoid(y) * (1 + 2 * constants.delta) - constants.delta).clamp(0, 1)


def probability_of_one(constants: HardConcrete, logits: Tensor) -> Tensor:
    """P(M = 1): there the mask passes no gradient to lambda."""
    return 1 - share_below(constants, logits, 1.0)


def probability_of_zero(constants: HardConcrete, logits: Tensor) -> Tensor:
    """P(M = 0)."""
    return share_below(constants, logits, 0.0)


def samples(constants: HardConcrete, logit: float) -> Tensor:
    u = draws()
    return constants.sample(torch.full_like(u, logit), u)


@pytest.mark.parametrize(
    ("delta", "bound", "threshold", "mean", "ones"),
    [(0.5, 1.0986, 3.0889, 0.99983, 0.965), (0.1, 2.3979, 4.3881, 0.978, 0.78)],
)
def test_the_sheet_s_numbers(delta: float, bound: float, threshold: float, mean: float, ones: float) -> None:
    """Section 2: the noise's bounds, thresholds of certainty, mean and share of exact ones at the initial logit 3."""
    constants = HardConcrete(delta=delta)
    start = logits_of(3)
    assert noise_bound(constants) == pytest.approx(bound, abs=5e-5)
    assert certain_one(constants) == pytest.approx(threshold, abs=1e-4)
    assert certain_zero(constants) == pytest.approx(-threshold, abs=1e-4)
    assert float(constants.mean(start)) == pytest.approx(mean, abs=5e-5 if delta == 0.5 else 5e-4)
    assert float(probability_of_one(constants, start)) == pytest.approx(ones, abs=2e-3)


def test_certainty_begins_at_the_threshold() -> None:
    for delta in (0.1, 0.5, 1.0):
        constants = HardConcrete(delta=delta)
        assert samples(constants, certain_one(constants) + 1e-9).min() == 1
        assert samples(constants, certain_one(constants) - 1e-3).min() < 1
        assert samples(constants, certain_zero(constants) - 1e-9).max() == 0
        assert samples(constants, certain_zero(constants) + 1e-3).max() > 0


@pytest.mark.parametrize("delta", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("logit", [-3.0, -1.0, 0.0, 0.7, 2.0, 3.0, 5.0])
def test_mean_median_and_probabilities_are_those_of_the_draws(delta: float, logit: float) -> None:
    constants = HardConcrete(alpha=0.6, zeta=1.2, gamma=-0.15, delta=delta)
    drawn, at = samples(constants, logit), logits_of(logit)
    assert float(constants.mean(at)) == pytest.approx(float(drawn.mean()), abs=1e-5)
    assert float(constants.median(at)) == pytest.approx(float(drawn.median()), abs=1e-5)
    assert float(probability_of_one(constants, at)) == pytest.approx(
        float((drawn == 1).double().mean()), abs=1e-4
    )
    assert float(probability_of_zero(constants, at)) == pytest.approx(
        float((drawn == 0).double().mean()), abs=1e-4
    )


def test_a_draw_in_closed_form_and_its_derivative() -> None:
    """One unit by the formulas of section 2, written out; clamped masks pass no gradient."""
    constants = HardConcrete(delta=0.1)
    logits = logits_of(0.4, 5.0, -5.0).requires_grad_()
    u = logits_of(0.3, 0.3, 0.3)
    mask = constants.sample(logits, u)
    s = 1 / (1 + math.exp(-(math.log(0.4) - math.log(0.8) + 0.4) / 0.83))
    assert mask[0].item() == pytest.approx(1.2 * s - 0.1)
    assert mask[1:].tolist() == [1, 0]
    mask.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([1.2 * s * (1 - s) / 0.83, 0, 0])


def test_ends_of_the_interval_are_finite() -> None:
    for u in (0.0, 1.0):
        logits = torch.zeros(3, requires_grad=True)
        HardConcrete().sample(logits, torch.full((3,), u)).sum().backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


def test_regularisers_by_hand() -> None:
    layers = [logits_of(1, -3), logits_of(0.5, 0.5, 2)]
    assert float(mean_l1(layers)) == pytest.approx((2 + 1) / 2)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    first = (sigmoid(1.4) + sigmoid(-0.2)) / 2
    second = (2 * sigmoid(1.2) + sigmoid(1.8)) / 3
    assert float(mean_sigmoid(layers)) == pytest.approx((first + second) / 2)
    assert float(mean_sigmoid(layers, 0.0, 0.0)) == pytest.approx(0.5)
    shift = 0.83 * math.log(0.1 / 1.1)
    total = sum(sigmoid(float(value) - shift) for layer in layers for value in layer)
    assert float(expected_l0(layers, HardConcrete())) == pytest.approx(total / 2)


def test_louizos_form_counts_units_that_are_left_where_delta_vanishes() -> None:
    constants = HardConcrete(delta=1e-9)
    logits = logits_of(-2, -0.5, 0, 1, 3)
    left = (1 - probability_of_zero(constants, logits)).sum()
    assert float(expected_l0([logits], constants)) == pytest.approx(float(left), abs=1e-6)


def test_where_the_regularisers_pull() -> None:
    """Raw logits are pulled to 0 and not below; the sigmoid's share goes on."""
    for logit, pulls_l1 in ((2.0, 1), (-2.0, -1)):
        logits = logits_of(logit).requires_grad_()
        assert torch.sign(torch.autograd.grad(mean_l1([logits]), logits)[0]) == pulls_l1
        assert torch.autograd.grad(mean_sigmoid([logits]), logits)[0] > 0


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"alpha": 0.0}, "'alpha' is 0; it must be above 0"),
        ({"zeta": 1.0}, "'zeta' is 1; it must be above 1"),
        ({"gamma": 0.0}, "'gamma' is 0; it must be below 0"),
        ({"delta": 0.0}, "'delta' is 0; it must be above 0"),
    ],
)
def test_impossible_constants_are_refused(constants: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        HardConcrete(**constants)
