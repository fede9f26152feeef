"""A checkpointed chain against the whole graph and closed forms, and what it must notice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.pruning.stand_ins import SavedBytes
from training.errors import FoundryError
from training.sampling.gradient_checkpointing import (
    Chain,
    ChainGradients,
    ReplayableNoise,
    State,
    chain_gradients,
    run_chain,
)


def latents(size: int = 2) -> Tensor:
    """One small latent in float64."""
    return torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ones() -> Tensor:
    """dL/dx_T of L = sum of x_T."""
    return torch.ones(1, 1, 2, 2, dtype=torch.float64)


def test_a_linear_chain_in_closed_form() -> None:
    """x_{i+1} = a x_i: dx_T/da = T a^(T-1) x_0 and dx_T/dx_0 = a^T."""
    factor = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    other = torch.zeros(3, requires_grad=True)
    chain = Chain(lambda state, _: (factor * state[0],), (latents(),), 5)
    trajectory = run_chain(chain)
    assert len(trajectory.states) == 6
    torch.testing.assert_close(trajectory.final, 1.5**5 * latents())
    assert not trajectory.final.requires_grad
    found = chain_gradients(chain, trajectory, ones(), [factor, other], with_start=True, tolerance=0.0)
    torch.testing.assert_close(found.parameters[0], 5 * 1.5**4 * latents().sum())
    assert torch.equal(found.parameters[1], torch.zeros(3))  # the loss does not depend on it
    assert found.start is not None
    torch.testing.assert_close(found.start, 1.5**5 * ones())
    assert factor.grad is None  # nothing is left behind on the parameters


def remembering(weight: Tensor, noise: ReplayableNoise) -> Any:
    """A step with memory and noise: x' = tanh(w x + m / 2) + (m - x) / 3 + n, m' = sin(w x)."""

    def step(state: State, index: int) -> State:
        x = state[0]
        m = state[1] if index else torch.zeros_like(x)
        n = torch.randn(x.shape, generator=noise.generators[0], dtype=x.dtype)
        return torch.tanh(weight * x + m / 2) + (m - x) / 3 + 0.1 * n, torch.sin(weight * x)

    return step


def remembering_chain(steps: int) -> tuple[Chain, Tensor]:
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    noise = ReplayableNoise([torch.Generator().manual_seed(4)])
    return Chain(remembering(weight, noise), (latents(),), steps, noise), weight


def full_graph(chain: Chain, weight: Tensor) -> tuple[Tensor, Tensor]:
    """dL/dw and dL/dx_0 by one backward pass through all steps."""
    chain.noise.restore(chain.noise.start)
    start = chain.start[0].clone().requires_grad_()
    state: State = (start,)
    for index in range(chain.num_steps):
        state = chain.step(state, index)
    weight_gradient, start_gradient = torch.autograd.grad(state[0].sum(), [weight, start])
    return weight_gradient, start_gradient


@pytest.mark.parametrize("with_start", [False, True])
@pytest.mark.parametrize("keep_last", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_memory_and_noise_take_part(steps: int, keep_last: bool, with_start: bool) -> None:
    chain, weight = remembering_chain(steps)
    wanted = full_graph(chain, weight)
    trajectory = run_chain(chain, keep_last=keep_last)
    assert not trajectory.final.requires_grad
    for _ in range(2):  # the second time nothing is kept
        found = chain_gradients(chain, trajectory, ones(), [weight], with_start=with_start, tolerance=0.0)
        torch.testing.assert_close(found.parameters[0], wanted[0], rtol=1e-12, atol=0)
        if with_start:
            assert found.start is not None
            torch.testing.assert_close(found.start, wanted[1], rtol=1e-12, atol=0)
        else:
            assert found.start is None
    again = run_chain(chain)  # the same noise, whatever was drawn in between
    assert torch.equal(again.final, trajectory.final)


def test_without_the_gradient_of_the_memory_it_would_be_wrong() -> None:
    """What the test above would miss if the memory's share were small."""
    chain, weight = remembering_chain(4)
    trajectory = run_chain(chain)
    cut = Chain(
        lambda state, i: chain.step((state[0], *(m.detach() for m in state[1:])), i),
        chain.start,
        4,
        chain.noise,
    )
    right = chain_gradients(chain, trajectory, ones(), [weight]).parameters[0]
    wrong = chain_gradients(cut, trajectory, ones(), [weight]).parameters[0]
    assert abs(wrong / right - 1) > 0.01


def test_one_call_of_autograd_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, weight = remembering_chain(6)
    trajectory = run_chain(chain)
    calls, grad = [], torch.autograd.grad

    def counted(*args: Any, **keywords: Any) -> Any:
        calls.append(args)
        return grad(*args, **keywords)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    chain_gradients(chain, trajectory, ones(), [weight])
    assert len(calls) == 6


@pytest.mark.parametrize(("keep_last", "times"), [(False, 12), (True, 11)])
def test_every_step_but_a_kept_one_is_taken_twice(keep_last: bool, times: int) -> None:
    chain, weight = remembering_chain(6)
    taken: list[int] = []

    def step(state: State, index: int) -> State:
        taken.append(index)
        return chain.step(state, index)

    counted = Chain(step, chain.start, 6, chain.noise)
    trajectory = run_chain(counted, keep_last=keep_last)
    chain_gradients(counted, trajectory, ones(), [weight])
    assert len(taken) == times
    assert sorted(taken) == sorted([*range(6), *range(times - 6)])
    assert not trajectory.kept


def test_a_step_that_is_no_function_of_state_index_and_noise_is_noticed() -> None:
    chain, weight = remembering_chain(3)
    forgetful = Chain(chain.step, chain.start, 3)  # draws from a generator that the chain does not know
    trajectory = run_chain(forgetful)
    with pytest.raises(FoundryError, match=r"step 2 run again ends 0\.\d+ away .* allowed is 0;"):
        chain_gradients(forgetful, trajectory, ones(), [weight], tolerance=0.0)
    found = chain_gradients(forgetful, trajectory, ones(), [weight])  # unasked, it is not compared
    assert isinstance(found, ChainGradients)
    shorter = Chain(lambda state, i: chain.step(state, i)[:1], chain.start, 3, chain.noise)
    whole = run_chain(chain)
    with pytest.raises(FoundryError, match="leaves 1 tensors, at first 2"):
        chain_gradients(shorter, whole, ones(), [weight], tolerance=0.0)
    nowhere = Chain(lambda state, i: (state[0] * torch.nan,), chain.start, 3)
    with pytest.raises(FoundryError, match="ends nan away"):
        chain_gradients(
            nowhere, run_chain(Chain(lambda s, i: s, chain.start, 3)), ones(), [weight], tolerance=1.0
        )


def test_a_tolerance_lets_rounding_pass() -> None:
    chain, weight = remembering_chain(3)
    trajectory = run_chain(chain)
    shifted = Chain(lambda s, i: tuple(m + 1e-9 for m in chain.step(s, i)), chain.start, 3, chain.noise)
    chain_gradients(shifted, trajectory, ones(), [weight], tolerance=1e-8)
    with pytest.raises(FoundryError, match="step 2 run again"):
        chain_gradients(shifted, trajectory, ones(), [weight], tolerance=1e-10)


@pytest.mark.parametrize("keep_last", [False, True])
def test_only_one_step_s_activations_live_at_a_time(keep_last: bool) -> None:
    def peaks(steps: int) -> tuple[int, int]:
        chain, weight = remembering_chain(steps)
        with SavedBytes().counting() as checkpointed:
            trajectory = run_chain(chain, keep_last=keep_last)
            chain_gradients(chain, trajectory, ones(), [weight])
        with SavedBytes().counting() as whole:
            full_graph(chain, weight)
        assert checkpointed.now == whole.now == 0
        return checkpointed.most, whole.most

    (few, few_whole), (many, many_whole) = peaks(4), peaks(16)
    assert 0 < many <= few
    assert many_whole > 3 * few_whole  # the meter sees what grows
