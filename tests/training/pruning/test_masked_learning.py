"""Mask learning over the masks that pruning really hangs on a backbone: gradients of the chain against the whole graph."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.training.pruning.stand_ins import SCHEDULERS, FakeDenoiser, frozen, full_graph_latents, prompts_for
from tests.training.pruning.test_learning import SETTINGS, NoMasks, PlainMasks
from training.pruning import masked, unit_groups
from training.pruning.learning import MaskLearner
from training.recipes.pruning import Kind, PruningOptions

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


@pytest.mark.parametrize(
    ("backbone", "scheduler", "kinds"),
    [
        ("PixArt-tiny", "DPM-Solver++ 2", ("heads", "ffn")),
        ("UNet-tiny", "DDIM", ("heads", "ffn")),
        ("SDXL-tiny", "Euler", ("heads", "ffn")),
        ("SD3-demo-h128-d4", "flow Euler", ("heads", "ffn")),
        ("FLUX-demo-h64-d2-s4", "flow Euler", ("heads", "ffn", "norm")),
    ],
)
def test_gradients_over_real_masks_are_those_of_the_whole_graph(
    backbone: str, scheduler: str, kinds: tuple[Kind, ...]
) -> None:
    module = frozen(backbone, torch.float32)
    groups = unit_groups(module, kinds)
    units: dict[str, dict[str, int]] = {
        kind: {g.name: g.num_units for g in groups if g.kind == kind} for kind in kinds
    }
    rates = {f"{kind}_learning_rate": 0.1 if kind in kinds else 0.0 for kind in ("heads", "ffn", "norm")}
    options = PruningOptions(**{**SETTINGS, **rates, "guidance": 2.0})
    denoiser = FakeDenoiser(module, SCHEDULERS[scheduler])
    masking = partial(masked, kinds=kinds)
    learner = MaskLearner(denoiser, prompts_for(module, 3), units, masking, options, 0, (8, 8))
    distance, gradients = learner.distance_gradients(0, 0)

    sampling = (denoiser, learner.prompts.part(0, 1), [0], options.steps, options.guidance)
    with torch.no_grad():
        target = full_graph_latents(*sampling, NoMasks())
    masks = PlainMasks(learner.logits, 0, 0)
    with masking(module, masks):
        final = full_graph_latents(*sampling, masks)
    wanted = torch.autograd.grad((target - final).square().mean(), learner.parameters)
    assert distance == pytest.approx(float((target - final).square().mean().detach()), rel=1e-4)
    assert distance > 0
    assert len(gradients) == len(groups)
    scale = max(float(gradient.abs().max()) for gradient in wanted)
    assert scale > 0
    for found, expected in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-4 * scale)
