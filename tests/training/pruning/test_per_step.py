"""The distance of single steps against plain autograd, what it costs, and resuming."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.pruning.stand_ins import masked
from tests.training.pruning.test_learning import PlainMasks, flat, learner
from training.pruning.noise import step_of_draw
from training.sampling.denoising_loop import extra_keywords, scaled_input, start_sampling

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


def reference(ours: Any, row: int, draw: int) -> tuple[Tensor, Tensor]:
    """The stock scheduler's loop up to the drawn step, and there both answers of the network with a whole graph."""
    start = start_sampling(ours.denoiser, ours.prompts.part(row, row + 1), [ours.seed], 3, 3.0, (8, 8))
    scheduler, latents = start.scheduler, start.latents
    extra = extra_keywords(scheduler, start.generators)
    index = step_of_draw(ours.seed, draw, 3)
    for number, timestep in enumerate(scheduler.timesteps):
        scaled = scaled_input(scheduler, latents, timestep)
        with torch.no_grad():
            dense = start.predict(scaled, timestep, number, 3)
        if number == index:
            break
        latents = scheduler.step(dense, timestep, latents, return_dict=False, **extra)[0]
    masks = PlainMasks(ours.logits, ours.seed, draw)
    masks.step = index
    with masked(ours.denoiser.backbone, masks):
        loss = (dense - start.predict(scaled, timestep, index, 3)).square().mean()
    return loss.detach(), torch.cat(torch.autograd.grad(loss, ours.parameters))


@pytest.mark.parametrize("scheduler", ["flow DPM-Solver++ 2", "Euler", "LCM"])
def test_gradients_are_those_of_one_step(scheduler: str) -> None:
    ours = learner(scheduler=scheduler, distance="per_step")
    draws = range(4)
    assert {step_of_draw(0, draw, 3) for draw in draws} == {0, 1, 2}
    for draw in draws:
        distance, gradients = ours.distance_gradients(draw % 3, draw)
        wanted, slopes = reference(ours, draw % 3, draw)
        assert distance == pytest.approx(float(wanted), rel=1e-4)
        assert slopes.abs().max() > 0
        torch.testing.assert_close(
            torch.cat(gradients), slopes, rtol=1e-3, atol=1e-4 * float(slopes.abs().max())
        )


def test_steps_are_drawn_evenly_and_by_seed() -> None:
    drawn = torch.tensor([step_of_draw(0, draw, 5) for draw in range(2000)])
    assert drawn.bincount().tolist() == pytest.approx([400] * 5, rel=0.15)
    assert [step_of_draw(1, draw, 5) for draw in range(50)] != drawn[:50].tolist()


def test_a_draw_costs_one_step() -> None:
    ours = learner(distance="per_step")
    ours.dense_path(0)
    calls: list[int] = []
    hook = ours.denoiser.backbone.register_forward_hook(lambda *_: calls.append(1))
    ours.distance_gradients(0, 0)
    hook.remove()
    assert len(calls) == 2  # dense and masked


def test_resuming_is_bit_equal() -> None:
    straight = learner(distance="per_step")
    for _ in range(4):
        straight.update()
    first = learner(distance="per_step")
    first.update()
    kept = io.BytesIO()
    torch.save(first.state(), kept)
    kept.seek(0)
    resumed = learner(distance="per_step")
    resumed.restore(torch.load(kept, weights_only=True))
    for _ in range(3):
        resumed.update()
    assert torch.equal(flat(resumed.parameters), flat(straight.parameters))
    ours = learner()
    for _ in range(4):
        ours.update()
    assert not torch.equal(flat(ours.parameters), flat(straight.parameters))
