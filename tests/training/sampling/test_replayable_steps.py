"""Stock samplers as checkpointed chains: the same latents, and the gradients of the whole graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from tests.training.pruning.stand_ins import (
    BETAS,
    SCHEDULERS,
    FakeDenoiser,
    NoisyMasks,
    SavedBytes,
    dpm_solver,
    frozen,
    full_graph_latents,
    masked,
    prompts_for,
    stepping_masks,
)
from training.errors import FoundryError
from training.sampling import denoising_loop
from training.sampling import replayable_steps as sampler_steps
from training.sampling.denoising_loop import sample_latents
from training.sampling.gradient_checkpointing import Chain, Trajectory, chain_gradients, run_chain
from training.sampling.replayable_steps import check_replayable, sampling_chain

# Stock schedulers of this release make arrays of tensors in a way that NumPy 2 asks to be written otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
SEEDS = [3]
BACKBONES = {
    "UNet-tiny": "DDIM",
    "SDXL-tiny": "Euler",
    "SD3-demo-h128-d4": "flow Euler",
    "FLUX-demo-h64-d2-s4": "flow Euler",
}
STOCHASTIC = ("LCM", "DDPM", "Euler ancestral", "SDE-DPM-Solver++ 2")


class Case:
    """A frozen backbone with noisy masks, sampled from one seed."""

    def __init__(
        self,
        backbone: str,
        scheduler: str,
        steps: int,
        guidance: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.backbone = frozen(backbone, dtype)
        self.denoiser = FakeDenoiser(self.backbone, SCHEDULERS[scheduler])
        self.prompts = prompts_for(self.backbone)
        self.masks = NoisyMasks(self.backbone, dtype)
        self.sampling = (self.denoiser, self.prompts, SEEDS, steps, guidance)
        self.chain = stepping_masks(sampling_chain(*self.sampling, (8, 8)), self.masks)

    def run(self, *, keep_last: bool = False) -> Trajectory:
        with masked(self.backbone, self.masks):
            return run_chain(self.chain, keep_last=keep_last)

    def checkpointed(
        self,
        trajectory: Trajectory,
        weights: Tensor,
        chain: Chain | None = None,
        tolerance: float | None = 0.0,
    ) -> Tensor:
        """dL/dlambda of all units, L = sum of ``weights`` x_T."""
        with masked(self.backbone, self.masks):
            found = chain_gradients(
                chain or self.chain, trajectory, weights, self.masks.parameters, tolerance=tolerance
            )
        return torch.cat(found.parameters)

    def whole(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """x_T and dL/dlambda by one backward pass."""
        with masked(self.backbone, self.masks):
            final = full_graph_latents(*self.sampling, self.masks)
            found = torch.autograd.grad((weights * final).sum(), self.masks.parameters)
        return final.detach(), torch.cat(found)


def weights_of(final: Tensor) -> Tensor:
    return torch.randn(final.shape, generator=torch.Generator().manual_seed(5), dtype=final.dtype)


def assert_equal_gradients(case: Case, rtol: float) -> None:
    """The latents are those of the stock loop bit by bit, the gradients equal to ``rtol`` of the largest."""
    trajectory = case.run(keep_last=True)
    weights = weights_of(trajectory.final)
    final, wanted = case.whole(weights)
    assert torch.equal(trajectory.final, final)
    assert wanted.abs().max() > 1e-3
    for _ in range(2):  # with the last step kept, and all steps taken again
        found = case.checkpointed(trajectory, weights)
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=rtol * float(wanted.abs().max()))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 3, 6])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_on_one_backbone(scheduler: str, steps: int, guidance: float) -> None:
    assert_equal_gradients(Case("PixArt-tiny", scheduler, steps, guidance), 1e-8)


@pytest.mark.parametrize("steps", [1, 3, 6])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_family(backbone: str, steps: int) -> None:
    guidance = 3.0 if steps == 3 else 1.0
    assert_equal_gradients(Case(backbone, BACKBONES[backbone], steps, guidance), 1e-8)


@pytest.mark.parametrize("backbone", ["UNet-tiny", "FLUX-demo-h64-d2-s4"])
def test_our_own_scheduler_on_other_families(backbone: str) -> None:
    assert_equal_gradients(Case(backbone, "flow DPM-Solver++ 2", 4, 3.0), 1e-8)


@pytest.mark.parametrize("backbone", ["PixArt-tiny", "SDXL-tiny", "FLUX-demo-h64-d2-s4"])
def test_in_single_precision(backbone: str) -> None:
    assert_equal_gradients(Case(backbone, "DPM-Solver++ 2", 3, 3.0, torch.float32), 1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_chain_ends_where_our_sampler_does(scheduler: str) -> None:
    case = Case("PixArt-tiny", scheduler, 4, 3.0, torch.float32)
    latents = sample_latents(case.denoiser, case.prompts, SEEDS, 4, 3.0, (8, 8))
    assert torch.equal(run_chain(case.chain).final, latents)


def test_steps_are_told_apart_by_number_where_timesteps_come_twice() -> None:
    """Karras' noise levels round to equal timesteps near the end: a timestep alone would not tell where the scheduler is."""
    backbone = frozen("PixArt-tiny", torch.float32)
    denoiser = FakeDenoiser(backbone, lambda: dpm_solver(use_karras_sigmas=True))
    sampling = (denoiser, prompts_for(backbone), SEEDS, 50, 1.0, (8, 8))
    chain = sampling_chain(*sampling)
    scheduler = denoiser.fresh_scheduler()
    scheduler.set_timesteps(50)
    assert len(set(scheduler.timesteps.tolist())) < 50
    with torch.no_grad():
        assert torch.equal(run_chain(chain).final, sample_latents(*sampling))


def test_a_backbone_in_bfloat16_keeps_the_latents_in_float32() -> None:
    case = Case("PixArt-tiny", "DPM-Solver++ 2", 3, 3.0, torch.bfloat16)
    trajectory = case.run()
    assert {part.dtype for state in trajectory.states for part in state} == {torch.float32}
    assert case.checkpointed(trajectory, weights_of(trajectory.final)).abs().max() > 1e-3


@pytest.mark.parametrize("scheduler", ["DPM-Solver++ 2", "DPM-Solver++ 3"])
def test_the_solver_s_memory_is_state(scheduler: str) -> None:
    """Cutting the gradient through the remembered clean predictions is an error that no replay check would notice."""
    case = Case("PixArt-tiny", scheduler, 5)
    trajectory = case.run()
    remembered = [len(state) - 1 for state in trajectory.states]
    assert remembered == ([0, 1, 1, 1, 1, 1] if scheduler[-1] == "2" else [0, 1, 2, 2, 2, 2])
    cut = replace(
        case.chain, step=lambda s, i: case.chain.step((s[0], *(part.detach() for part in s[1:])), i)
    )
    weights = weights_of(trajectory.final)
    right, wrong = case.checkpointed(trajectory, weights), case.checkpointed(trajectory, weights, cut)
    assert (wrong - right).abs().max() > 1e-2 * right.abs().max()


def test_other_mask_noise_is_noticed() -> None:
    case = Case("PixArt-tiny", "DDIM", 3)
    trajectory = case.run()
    case.masks.salt = "another draw"
    with pytest.raises(FoundryError, match="step 2 run again ends"):
        case.checkpointed(trajectory, weights_of(trajectory.final))


@pytest.mark.parametrize("scheduler", STOCHASTIC)
def test_other_sampler_noise_is_noticed(scheduler: str) -> None:
    case = Case("PixArt-tiny", scheduler, 3)
    trajectory = case.run()
    moved = Trajectory(trajectory.states, trajectory.noise[1:] + trajectory.noise[:1])
    with pytest.raises(FoundryError, match=r"step \d run again ends"):
        case.checkpointed(moved, weights_of(trajectory.final))


@pytest.mark.parametrize("scheduler", ["Euler", "Euler ancestral", "flow Euler", "LCM", "DPM-Solver++ 2"])
def test_a_scheduler_that_stands_elsewhere_is_noticed(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("PixArt-tiny", scheduler, 3)
    trajectory = case.run()
    right = sampler_steps.standing_at

    def left_at_the_end(scheduler: Any, index: int, remembered: Any) -> Any:
        placed = right(scheduler, index, remembered)
        placed._step_index = 2 if index else 0
        return placed

    monkeypatch.setattr(sampler_steps, "standing_at", left_at_the_end)
    with pytest.raises(FoundryError, match="step 1 run again ends"):
        case.checkpointed(trajectory, weights_of(trajectory.final))


def test_index_set_after_scaling_is_noticed_and_gives_other_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The published defect: the recompute scales its input by the noise level at which the scheduler was left."""
    case = Case("SDXL-tiny", "Euler", 6, 3.0)
    trajectory = case.run()
    weights = weights_of(trajectory.final)
    right = case.checkpointed(trajectory, weights)

    def scaled_too_early(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
        return latents / ((scheduler.sigmas[-1] ** 2 + 1) ** 0.5)

    monkeypatch.setattr(denoising_loop, "scaled_input", scaled_too_early)
    with pytest.raises(FoundryError, match="step 5 run again ends"):
        case.checkpointed(trajectory, weights)
    wrong = case.checkpointed(trajectory, weights, tolerance=None)
    assert torch.cosine_similarity(right, wrong, dim=0) < 0.99


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_peak_memory_is_one_step_s(guidance: float) -> None:
    def peak(steps: int) -> int:
        case = Case("UNet-tiny", "DPM-Solver++ 2", steps, guidance, torch.float32)
        with SavedBytes(case.backbone.parameters()).counting() as saved:
            trajectory = case.run(keep_last=True)
            case.checkpointed(trajectory, torch.ones_like(trajectory.final), tolerance=None)
        assert saved.now == 0
        return saved.most

    peaks = [peak(steps) for steps in (4, 8, 16)]
    assert min(peaks) > 100_000
    assert max(peaks) <= 1.05 * min(peaks)


def test_the_whole_graph_s_memory_grows() -> None:
    """The meter of the test above sees it."""
    saved = []
    for steps in (2, 4):
        case = Case("UNet-tiny", "DPM-Solver++ 2", steps, 1.0, torch.float32)
        with SavedBytes(case.backbone.parameters()).counting() as meter:
            case.whole(torch.ones(1, 16, 8, 8))
        saved.append(meter.most)
    assert 1.9 <= saved[1] / saved[0] <= 2.1


@pytest.mark.parametrize(
    "name",
    [
        "PNDMScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "DPMSolverSinglestepScheduler",
    ],
)
def test_schedulers_that_remember_more_are_refused_by_name(name: str) -> None:
    backbone = frozen("PixArt-tiny", torch.float32)
    scheduler = getattr(diffusers, name)
    with pytest.raises(
        FoundryError, match=rf"a {name} remembers .* DPMSolverMultistepScheduler; sample with"
    ):
        sampling_chain(FakeDenoiser(backbone, scheduler), prompts_for(backbone), SEEDS, 4, 1.0)


def test_a_subclass_may_remember_more_and_is_refused() -> None:
    class OwnScheduler(diffusers.DDIMScheduler):
        pass

    with pytest.raises(FoundryError, match="a OwnScheduler remembers"):
        check_replayable(OwnScheduler(**BETAS))
