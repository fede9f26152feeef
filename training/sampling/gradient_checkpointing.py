"""Gradients through a chain of steps whose activations do not fit: time-step gradient checkpointing.

x_{i+1} = S_i(x_i; lambda, u_i) for i = 0 .. T-1, and a loss of x_T. The chain first runs without gradient and keeps every x_i
and whatever reproduces the noise u_i. Then, from the last step to the first, step i runs again from x_i, and one
vector-Jacobian product leads from dL/dx_{i+1} to dL/dx_i and to the step's share of dL/dlambda. Activations of one step live
at a time; the price is a second forward pass. (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", with the
steps of a sampler as segments; EcoDiff, arXiv 2412.02852, calls it time-step gradient checkpointing.)

A state is a tuple of tensors, so that the memory of a multistep solver takes part: x_i alone would lose the gradient that
reaches step i-1 through what the solver remembers of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from training.errors import FoundryError

State = tuple[Tensor, ...]
"""What one step hands to the next: the latents first, then what a multistep solver remembers."""


Step = Callable[[State, int], State]
"""One step of a chain: a function of state and index, of the parameters it closes over, and of the chain's noise.

It must not change the state that it is given, nor remember anything from one call to the next.
"""


class ReplayableNoise:
    """The generators that a chain's steps draw from, which can be set back to where any step began."""

    def __init__(self, generators: Sequence[torch.Generator] = ()) -> None:
        self.generators = tuple(generators)
        self.start = self.position()

    def position(self) -> State:
        """The generators' states, a few kilobytes each."""
        return tuple(generator.get_state() for generator in self.generators)

    def restore(self, position: State) -> None:
        """Draw from here on what was drawn after ``position``."""
        for generator, state in zip(self.generators, position, strict=True):
            generator.set_state(state)


@dataclass(frozen=True)
class Chain:
    """A start, the step that is taken ``num_steps`` times from it, and the noise that the step draws from."""

    step: Step
    start: State
    num_steps: int
    noise: ReplayableNoise = field(default_factory=ReplayableNoise)


@dataclass(frozen=True)
class Taken:
    """A step that was taken with gradient: the state it began with, and the one it ended with, graph attached."""

    inputs: State
    outputs: State


@dataclass(frozen=True)
class Trajectory:
    """A chain that has run: the states x_0 .. x_T, and for each step where its noise began.

    ``kept`` holds the last step with its graph, if it was to be kept, until :func:`chain_gradients` uses it up.
    """

    states: tuple[State, ...]
    noise: tuple[State, ...]
    kept: list[Taken] = field(default_factory=list)

    @property
    def final(self) -> Tensor:
        """x_T, without graph."""
        return self.states[-1][0]


@dataclass(frozen=True)
class ChainGradients:
    """dL/dlambda in the order of the parameters given, zeros where the loss does not depend on one; dL/dx_0 if asked for."""

    parameters: tuple[Tensor, ...]
    start: Tensor | None = None


@torch.no_grad()
def run_chain(chain: Chain, *, keep_last: bool = False) -> Trajectory:
    """Take all steps without gradient, always with the same noise, and keep what :func:`chain_gradients` needs.

    ``keep_last`` takes the last step with gradient, so that it need not be taken again: no more memory, for its
    activations are gone before those of the step before it are made, and of T steps only T - 1 are taken twice.
    """
    chain.noise.restore(chain.noise.start)
    states, positions, kept = [chain.start], [], []
    for index in range(chain.num_steps):
        positions.append(chain.noise.position())
        if keep_last and index == chain.num_steps - 1:
            kept.append(_take(chain, states[-1], index, differentiable=index > 0))
            states.append(tuple(part.detach() for part in kept[0].outputs))
        else:
            states.append(chain.step(states[-1], index))
    return Trajectory(tuple(states), tuple(positions), kept)


def chain_gradients(
    chain: Chain,
    trajectory: Trajectory,
    grad_final: Float[Tensor, "n c h w"],
    parameters: Sequence[Tensor],
    *,
    with_start: bool = False,
    tolerance: float | None = None,
) -> ChainGradients:
    """Gradients of a loss of x_T, given ``grad_final`` = dL/dx_T: one backward pass per step, from the last to the first.

    They equal those of the full graph to rounding. ``with_start`` asks for dL/dx_0 too. ``tolerance`` is the largest
    difference allowed between a step's recomputed state and the stored one: 0 for equality bit by bit, None to leave them
    uncompared. Raises FoundryError naming the step when the difference is larger, which tells of a step that is no function
    of its state, index and noise.
    """
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    above: list[Tensor | None] = [grad_final]
    for index in reversed(range(chain.num_steps)):
        differentiable = index > 0 or with_start
        if trajectory.kept and (index > 0 or not with_start):  # a kept first step knows no gradient of x_0
            taken = trajectory.kept.pop()
        else:
            chain.noise.restore(trajectory.noise[index])
            taken = _take(chain, trajectory.states[index], index, differentiable=differentiable)
            if tolerance is not None:
                _check_replay(taken.outputs, trajectory.states[index + 1], index, tolerance)
        wanted = taken.inputs if differentiable else ()
        found = _product(taken.outputs, above, [*wanted, *parameters])
        above = found[: len(wanted)]
        for total, gradient in zip(totals, found[len(wanted) :], strict=True):
            if gradient is not None:
                total += gradient
    if not with_start:
        return ChainGradients(tuple(totals))
    start = above[0]
    return ChainGradients(tuple(totals), torch.zeros_like(chain.start[0]) if start is None else start)


def _take(chain: Chain, state: State, index: int, *, differentiable: bool) -> Taken:
    """One step with gradient; ``differentiable``: also that of the state it begins with."""
    inputs = tuple(part.detach().requires_grad_(differentiable) for part in state)
    with torch.enable_grad():
        return Taken(inputs, chain.step(inputs, index))


def _product(outputs: State, above: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """g . dS/d(inputs) in one call; parts of the state that no later step looks at have no g and take no part."""
    padded = [*above, *[None] * (len(outputs) - len(above))]
    pairs = [
        (output, gradient)
        for output, gradient in zip(outputs, padded, strict=True)
        if gradient is not None and output.requires_grad
    ]
    if not pairs:
        return [None] * len(inputs)
    roots, gradients = zip(*pairs, strict=True)
    return list(torch.autograd.grad(roots, inputs, gradients, allow_unused=True))


def _check_replay(outputs: State, stored: State, index: int, tolerance: float) -> None:
    same = len(outputs) == len(stored)
    for again, kept in zip(outputs, stored, strict=False):
        if torch.equal(again, kept):
            continue
        difference = float((again.detach() - kept).abs().max())
        if not difference <= tolerance:  # also where it is not a number
            raise FoundryError(
                f"chain: step {index} run again ends {difference:.3g} away from where it ended first, allowed is "
                f"{tolerance:g}; the step must depend on its state, its index and the chain's noise alone"
            )
    if not same:
        raise FoundryError(
            f"chain: step {index} run again leaves {len(outputs)} tensors, at first {len(stored)}; "
            "the step must depend on its state, its index and the chain's noise alone"
        )
