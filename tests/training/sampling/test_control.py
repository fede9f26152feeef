"""Controls act on exactly the steps they choose, on both halves of guidance, and replays see them too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.pruning.stand_ins import SCHEDULERS, FakeDenoiser, NoisyMasks, frozen, masked, prompts_for
from training.backbones import attentions, denoise
from training.conditioning import Condition
from training.errors import FoundryError
from training.sampling.control import Changed, Hooked, OtherCondition, Together, Watched, Window
from training.sampling.denoising_loop import (
    extra_keywords,
    sample_latents,
    scaled_input,
    start_sampling,
)
from training.sampling.gradient_checkpointing import chain_gradients, run_chain
from training.sampling.replayable_steps import sampling_chain

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
SEEDS, SIZE = [3, 4], (8, 8)
CASES = [
    ("PixArt-tiny", "flow DPM-Solver++ 2", 3.0),
    ("UNet-tiny", "Euler ancestral", 3.0),
    ("UNet-tiny", "DDIM", 1.0),
    ("FLUX-tiny", "flow Euler", 3.5),
]


def denoiser_of(name: str, scheduler: str) -> FakeDenoiser:
    return FakeDenoiser(frozen(name, torch.float32), SCHEDULERS[scheduler])


def others(condition: Condition) -> Condition:
    """Other texts, with another empty text."""
    null = condition.null
    assert null is not None
    return replace(condition, states=condition.states.flip(-1) + 0.3).with_null(
        replace(null, states=null.states - 0.2)
    )


@pytest.mark.parametrize(("name", "scheduler", "guidance"), CASES)
@torch.no_grad()
def test_the_condition_that_was_given_changes_no_bit(name: str, scheduler: str, guidance: float) -> None:
    denoiser = denoiser_of(name, scheduler)
    texts = prompts_for(denoiser.backbone, 2)
    plain = sample_latents(denoiser, texts, SEEDS, 4, guidance, SIZE)
    for control in (
        OtherCondition(texts),
        Changed(lambda given: given),
        Together([OtherCondition(texts), Hooked(idle)]),
        Watched(lambda *_: None),
    ):
        found = sample_latents(denoiser, texts, SEEDS, 4, guidance, SIZE, control=control)
        assert torch.equal(found, plain)


@contextmanager
def idle(_backbone: Any) -> Iterator[None]:
    yield


def by_hand(
    denoiser: FakeDenoiser, before: Condition, after: Condition, swap: int, steps: int, guidance: float
) -> Tensor:
    """A loop written out, one pass for each half of guidance."""
    start = start_sampling(denoiser, before, SEEDS, steps, guidance, SIZE)
    latents, scheduler = start.latents, start.scheduler
    extra = extra_keywords(scheduler, start.generators)
    for index, timestep in enumerate(scheduler.timesteps):
        told = after if index >= swap else before
        scaled, times = scaled_input(scheduler, latents, timestep), timestep.expand(2)
        output = denoise(denoiser.backbone, scaled, times, replace(told, null=None, guidance=guidance))
        if start.predict.doubled:
            assert told.null is not None
            states, mask = told.null.states.repeat(2, 1, 1), told.null.mask.repeat(2, 1)
            without = denoise(denoiser.backbone, scaled, times, Condition(states, mask))
            output = without + guidance * (output - without)
        latents = scheduler.step(output, timestep, latents, return_dict=False, **extra)[0]
    return latents


@pytest.mark.parametrize(("name", "scheduler", "guidance"), CASES)
@torch.no_grad()
def test_a_condition_swapped_from_a_step_on(name: str, scheduler: str, guidance: float) -> None:
    denoiser = denoiser_of(name, scheduler)
    texts = prompts_for(denoiser.backbone, 2)
    other, plain = others(texts), sample_latents(denoiser, texts, SEEDS, 4, guidance, SIZE)
    for swap in (0, 2, 3):
        control = OtherCondition(other, Window(swap / 4, 1.0))
        found = sample_latents(denoiser, texts, SEEDS, 4, guidance, SIZE, control=control)
        torch.testing.assert_close(
            found, by_hand(denoiser, texts, other, swap, 4, guidance), rtol=1e-4, atol=1e-4
        )
        assert not torch.allclose(found, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((0.0, 1.0), {1: [0], 4: [0, 1, 2, 3], 7: [0, 1, 2, 3, 4, 5, 6]}),
        ((0.25, 0.75), {1: [], 4: [1, 2], 7: [1, 2, 3, 4]}),
        ((0.5, 1.0), {1: [0], 4: [2, 3], 7: [3, 4, 5, 6]}),
        ((0.0, 0.0), {1: [], 4: [], 7: []}),
    ],
)
@pytest.mark.parametrize("steps", [1, 4, 7])
@torch.no_grad()
def test_a_window_acts_on_the_right_steps(
    window: tuple[float, float], expected: dict[int, list[int]], steps: int
) -> None:
    denoiser = denoiser_of("PixArt-tiny", "flow Euler")
    texts = prompts_for(denoiser.backbone, 2)
    passes: list[int] = []
    told: list[int] = []
    denoiser.backbone.register_forward_pre_hook(lambda *_: passes.append(len(passes)))

    @contextmanager
    def noted(backbone: Any) -> Iterator[None]:
        assert backbone is denoiser.backbone
        told.append(len(passes))
        yield
        assert passes[-1] == told[-1]  # one pass, with both halves, inside

    sample_latents(denoiser, texts, SEEDS, steps, 3.0, SIZE, control=Hooked(noted, Window(*window)))
    assert told == expected[steps]
    assert passes == list(range(steps))


@torch.no_grad()
def test_replaced_values_reach_both_halves() -> None:
    denoiser = denoiser_of("PixArt-tiny", "flow Euler")
    texts = prompts_for(denoiser.backbone, 2)
    rows: list[int] = []

    def zeros(_module: Any, _given: Any, values: Tensor) -> Tensor:
        rows.append(len(values))
        return torch.zeros_like(values)

    @contextmanager
    def silent(backbone: Any) -> Iterator[None]:
        """Cross-attention reads zeros."""
        found: list[tuple[str, Any]] = list(attentions(backbone))
        crossing = [module for name, module in found if name.endswith("attn2")]
        handles = [module.to_v.register_forward_hook(zeros) for module in crossing]
        yield
        for handle in handles:
            handle.remove()

    plain = sample_latents(denoiser, texts, SEEDS, 4, 3.0, SIZE)
    found = sample_latents(denoiser, texts, SEEDS, 4, 3.0, SIZE, control=Hooked(silent, Window(0.5, 1.0)))
    assert set(rows) == {4}
    assert not torch.equal(found, plain)
    unguided = sample_latents(denoiser, others(texts), SEEDS, 4, 3.0, SIZE, control=Hooked(silent))
    torch.testing.assert_close(
        unguided,
        sample_latents(denoiser, texts, SEEDS, 4, 1.0, SIZE, control=Hooked(silent)),
        rtol=1e-3,
        atol=1e-3,
    )


def test_a_replay_under_control_gives_the_gradients_of_the_whole_graph() -> None:
    denoiser = FakeDenoiser(frozen("PixArt-tiny"), SCHEDULERS["flow DPM-Solver++ 2"])
    texts = prompts_for(denoiser.backbone, 2).to(dtype=torch.float64)
    control = Together([OtherCondition(others(texts), Window(0.5, 1.0)), Hooked(idle)])
    masks = NoisyMasks(denoiser.backbone)
    with masked(denoiser.backbone, masks), torch.enable_grad():
        chain = sampling_chain(denoiser, texts, SEEDS, 4, 3.0, SIZE, control=control)
        state = chain.start
        for index in range(chain.num_steps):
            state = chain.step(state, index)
        wanted = torch.autograd.grad(state[0].square().sum(), masks.parameters)
        trajectory = run_chain(chain)
        final = trajectory.final
        torch.testing.assert_close(final, state[0].detach())
        found = chain_gradients(chain, trajectory, 2 * final, masks.parameters, tolerance=0.0)
        plain = run_chain(sampling_chain(denoiser, texts, SEEDS, 4, 3.0, SIZE)).final
    assert not torch.allclose(plain, final)
    for own, expected in zip(found.parameters, wanted, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-9)


@torch.no_grad()
def test_who_watches_hears_of_every_step_and_may_end_the_sampling() -> None:
    denoiser = denoiser_of("PixArt-tiny", "flow Euler")
    texts, told = prompts_for(denoiser.backbone, 2), list[tuple[int, int]]()

    def tell(step: int, num_steps: int) -> None:
        told.append((step, num_steps))
        if len(told) == 5:
            raise InterruptedError

    sample_latents(denoiser, texts, SEEDS, 3, 3.0, SIZE, control=Watched(tell))
    assert told == [(0, 3), (1, 3), (2, 3)]
    with pytest.raises(InterruptedError):
        sample_latents(denoiser, texts, SEEDS, 3, 3.0, SIZE, control=Watched(tell))
    assert told[3:] == [(0, 3), (1, 3)]


def test_mistakes_are_told() -> None:
    denoiser = denoiser_of("PixArt-tiny", "flow Euler")
    texts = prompts_for(denoiser.backbone, 2)
    with pytest.raises(FoundryError, match=r"window: \[0.7, 0.2"):
        Window(0.7, 0.2)
    with pytest.raises(FoundryError, match="a condition of 1 rows for 2 pictures"):
        sample_latents(denoiser, texts, SEEDS, 1, 1.0, SIZE, control=OtherCondition(texts.part(0, 1)))
    masking = Changed(lambda given: replace(given, attention_mask=torch.ones(2, 3, 3)))
    with pytest.raises(FoundryError, match="'attention_mask' is given"):
        sample_latents(denoiser, texts, SEEDS, 1, 1.0, SIZE, control=masking)
    with pytest.raises(FoundryError, match="'true_guidance' is 2"):
        sample_latents(denoiser, texts, SEEDS, 1, 1.0, SIZE, true_guidance=2.0)
    flux = denoiser_of("FLUX-tiny", "flow Euler")
    with pytest.raises(FoundryError, match="'latent_size' is missing, and FLUX names no size"):
        sample_latents(flux, prompts_for(flux.backbone, 2), SEEDS, 1, 1.0)
