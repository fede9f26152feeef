"""Mask learning against the whole graph written out, its traps, and resuming."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.pruning.stand_ins import (
    SCHEDULERS,
    FakeDenoiser,
    frozen,
    full_graph_latents,
    masked,
    prompts_for,
    unit_counts,
)
from training.errors import FoundryError
from training.pruning.hard_concrete import HardConcrete
from training.pruning.learning import MaskLearner
from training.pruning.noise import MaskNoise
from training.recipes.pruning import PRESETS, PruningOptions, pruning_preset

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
SETTINGS: dict[str, Any] = {
    "prompts": 3,
    "accumulate": 2,
    "steps": 3,
    "guidance": 3.0,
    "logit_init": 1.0,
    "check_replay": True,
}


def learner(
    seed: int = 0,
    backbone: Any = None,
    scheduler: str = "flow DPM-Solver++ 2",
    extra_units: dict[str, dict[str, int]] | None = None,
    **options: Any,
) -> MaskLearner:
    """A learner on PixArt-tiny in float32."""
    module = backbone or frozen("PixArt-tiny", torch.float32)
    units = {**unit_counts(module), **(extra_units or {})}
    settings = PruningOptions(**{**SETTINGS, **options})
    denoiser = FakeDenoiser(module, SCHEDULERS[scheduler])
    return MaskLearner(denoiser, prompts_for(module, 3), units, masked, settings, seed, (8, 8))


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().clone() for tensor in tensors])


class PlainMasks:
    """The relaxation of section 2 written out, for a whole graph."""

    def __init__(self, logits: dict[str, dict[str, Tensor]], seed: int, draw: int) -> None:
        self.logits, self.seed, self.draw, self.step = logits, seed, draw, 0

    def __call__(self, key: Any) -> Tensor:
        kind, name = key
        logits = self.logits[kind][name]
        noise = MaskNoise(self.seed)
        noise.begin(self.draw, self.step)
        u = noise.uniform(name, len(logits)).float()
        s = torch.sigmoid((torch.log(u + 0.5) - torch.log(1 - u + 0.5) + logits) / 0.83)
        return (1.2 * s - 0.1).clamp(0, 1)


class NoMasks:
    step = 0


def reference_updates(start: MaskLearner, rows: list[list[int]], beta: float) -> Tensor:
    """Logits after the updates: losses written out, summed, and given to backward and a plain AdamW."""
    logits = {
        kind: {name: value.detach().clone().requires_grad_() for name, value in layers.items()}
        for kind, layers in start.logits.items()
    }
    parameters = [value for layers in logits.values() for value in layers.values()]
    optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.01)
    draw = 0
    for chosen in rows:
        for row in chosen:
            sampling = (start.denoiser, start.prompts.part(row, row + 1), [start.seed], 3, 3.0)
            with torch.no_grad():
                target = full_graph_latents(*sampling, NoMasks())
            masks = PlainMasks(logits, start.seed, draw)
            with masked(start.denoiser.backbone, masks):
                final = full_graph_latents(*sampling, masks)
            loss = (target - final).square().mean()
            for layers in logits.values():
                loss = loss + beta * sum(v.abs().sum() / len(v) for v in layers.values()) / len(layers)
            loss.backward()
            draw += 1
        optimizer.step()
        optimizer.zero_grad()
    return flat(parameters)


@pytest.mark.parametrize("beta", [0.5, 1e-4])
def test_updates_are_those_of_the_whole_graph(beta: float) -> None:
    """Once where the regulariser decides, once where the distance does."""
    ours = learner(beta=beta)
    rows = [ours._order.draw(first, 2).rows.tolist() for first in (0, 2)]
    wanted = reference_updates(ours, rows, beta)
    before = flat(ours.parameters)
    for _ in range(2):
        ours.update()
    torch.testing.assert_close(flat(ours.parameters), wanted, rtol=1e-4, atol=1e-5)
    moved = wanted - before
    assert moved.abs().min() > 0.001
    assert (moved.std() > 0.1) == (beta < 0.01)
    assert all(parameter.grad is None for parameter in ours.parameters)
    assert len({row for chosen in rows for row in chosen}) == 3


def test_gradients_of_one_prompt_are_summed_and_not_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = learner(accumulate=3, beta=0.0)
    order = ours._order.draw(0, 3).rows.tolist()
    wanted = sum(torch.cat(ours.distance_gradients(row, draw)[1]) for draw, row in enumerate(order))
    taken: list[list[Tensor]] = []
    monkeypatch.setattr(ours, "_step", taken.append)
    ours.update()
    assert isinstance(wanted, Tensor)
    assert wanted.abs().max() > 0
    torch.testing.assert_close(torch.cat(taken[0]), wanted)


def test_no_mask_no_distance() -> None:
    """Far above the threshold every mask is 1: the masked chain is the dense one bit by bit, and only R moves logits."""
    ours = learner(logit_init=10.0)
    distance, gradients = ours.distance_gradients(0, 0)
    assert distance == 0
    assert torch.cat(gradients).abs().max() == 0
    report = ours.update()
    assert report.penalties == {"heads": 10.0, "ffn": 10.0}
    assert report.loss == pytest.approx(0.5 * 20)
    assert (flat(ours.parameters) < 10).all()


def test_the_norm_s_regulariser_is_in_the_loss() -> None:
    """These units touch nothing, so that only the regulariser can move them."""
    extra = {"norm": {"norm1.linear": 6}}
    ours = learner(extra_units=extra, norm_learning_rate=0.5, weight_decay=0.0)
    report = ours.update()
    assert report.penalties["norm"] == 1
    assert report.loss == pytest.approx(report.distance + 0.5 * sum(report.penalties.values()))
    torch.testing.assert_close(ours.logits["norm"]["norm1.linear"].detach(), torch.full((6,), 0.5))


def test_kinds_without_a_rate_are_left_alone() -> None:
    ours = learner(heads_learning_rate=0.0)
    assert set(ours.logits) == {"ffn"}
    heads = unit_counts(ours.denoiser.backbone)["heads"]
    name, count = next(iter(heads.items()))
    assert torch.equal(ours.masks(("heads", name)), torch.ones(count))
    ours.update()


def test_rates_and_decay_are_the_optimizer_s() -> None:
    ours = learner(ffn_learning_rate=0.3, weight_decay=0.2)
    assert [(group["lr"], group["weight_decay"]) for group in ours.optimizer.param_groups] == [
        (0.1, 0.2),
        (0.3, 0.2),
    ]
    still = learner(logit_init=10.0, beta=0.0, weight_decay=0.2)
    still.update()
    torch.testing.assert_close(flat(still.parameters), torch.full((len(flat(still.parameters)),), 9.8))


@pytest.mark.parametrize("scheduler", ["flow DPM-Solver++ 2", "LCM"])
def test_resuming_is_bit_equal(scheduler: str) -> None:
    straight = learner(scheduler=scheduler)
    for _ in range(3):
        straight.update()
    first = learner(scheduler=scheduler)
    first.update()
    kept = io.BytesIO()
    torch.save(first.state(), kept)
    first.update()  # what was saved does not follow
    kept.seek(0)
    resumed = learner(scheduler=scheduler)
    resumed.restore(torch.load(kept, weights_only=True))
    assert resumed.updates == 1
    reports = [resumed.update() for _ in range(2)]
    assert torch.equal(flat(resumed.parameters), flat(straight.parameters))
    assert reports[-1].number == straight.updates == 3
    other = learner(seed=1, scheduler=scheduler)
    other.update()
    assert not torch.equal(flat(other.parameters), flat(first.parameters))


def test_a_state_of_other_units_is_refused() -> None:
    state = learner(heads_learning_rate=0.0).state()
    with pytest.raises(FoundryError, match="differ in 'heads' of 'transformer_blocks.0.attn1.to_out.0'"):
        learner().restore(state)


def test_initial_noise_is_shared_or_each_prompt_s_own() -> None:
    def starts(choice: str) -> list[Tensor]:
        ours = learner(initial_noise=choice)
        return [ours._chain(row).start[0] for row in range(3)]

    shared, own = starts("shared"), starts("per_prompt")
    assert torch.equal(shared[0], shared[1])
    assert torch.equal(shared[0], shared[2])
    assert not torch.equal(own[0], own[1])
    assert torch.equal(own[1], starts("per_prompt")[1])


def test_the_dense_target_is_drawn_once() -> None:
    ours = learner()
    target = ours.target(1)
    assert ours.target(1) is target
    assert torch.equal(learner().target(1), target)


def test_a_backbone_that_checkpoints_its_blocks_gives_the_same_gradients() -> None:
    """Its layers are called again in the backward pass, when a counter of calls would draw other masks."""
    plain = frozen("PixArt-tiny", torch.float32)
    wanted = learner(backbone=plain).distance_gradients(0, 0)
    plain.enable_gradient_checkpointing()
    found = learner(backbone=plain).distance_gradients(0, 0)
    assert found[0] == wanted[0]
    torch.testing.assert_close(torch.cat(found[1]), torch.cat(wanted[1]))
    assert torch.cat(wanted[1]).abs().max() > 0


def test_learning_ranks_units_by_what_they_are_worth() -> None:
    """Neurons whose output goes nowhere are given to the regulariser; most of those that matter withstand it."""
    backbone = frozen("PixArt-tiny", torch.float32)
    name = "transformer_blocks.0.ff.net.2"
    half = backbone.get_submodule(name).in_features // 2
    with torch.no_grad():
        weight: Any = backbone.get_submodule(name).weight
        weight[:, :half] = 0
        weight[:, half:] *= 10
    ours = learner(backbone=backbone, beta=1e-3, guidance=1.0, logit_init=0.5, accumulate=3)
    for _ in range(6):
        ours.update()
    logits = ours.logits["ffn"][name].detach()
    assert logits[:half].max() < 0.1
    assert logits[half:].mean() > 0.5


def test_gradients_that_are_not_finite_leave_the_logits() -> None:
    ours = learner(check_replay=False)
    before = flat(ours.parameters)
    with torch.no_grad():
        next(ours.denoiser.backbone.parameters()).fill_(math.nan)
    with pytest.raises(FoundryError, match="update 1 has gradients that are not finite"):
        ours.update()
    assert torch.equal(flat(ours.parameters), before)
    assert ours.updates == 0


def test_mistakes_by_name() -> None:
    with pytest.raises(FoundryError, match="'prompts' is 9, but 3 are given"):
        learner(prompts=9)
    with pytest.raises(FoundryError, match="units of kind 'block'; known are heads, ffn, norm"):
        learner(extra_units={"block": {"a": 1}})
    with pytest.raises(FoundryError, match="has units of heads, ffn, and none of these has a learning"):
        learner(heads_learning_rate=0.0, ffn_learning_rate=0.0, norm_learning_rate=0.1)


def test_the_official_settings() -> None:
    """Sheet, sections 2 to 4, column by column."""

    def column(name: str) -> tuple[Any, ...]:
        o = pruning_preset(name)
        rates = (o.heads_learning_rate, o.ffn_learning_rate, o.norm_learning_rate)
        return o.prompts, o.epochs, o.steps, o.beta, rates, o.logit_init, o.delta, o.regulariser

    assert {name: column(name) for name in PRESETS} == {
        "SDXL": (100, 4, 50, 0.5, (0.1, 0.1, 0.0), 3.0, 0.5, "l1"),
        "FLUX.1-schnell": (100, 4, 5, 0.01, (0.5, 0.1, 0.5), 3.0, 0.1, "sigmoid"),
        "FLUX.1-dev": (100, 4, 50, 0.01, (0.5, 0.1, 0.5), 3.0, 0.1, "sigmoid"),
        "SD2": (100, 3, 50, 1.0, (0.2, 0.2, 0.0), 2.5, 0.5, "l1"),
        "SD3.5-large": (256, 4, 40, 0.5, (0.2, 0.2, 0.0), 4.0, 1.0, "l1"),
    }
    assert (pruning_preset("SDXL").guidance, pruning_preset("FLUX.1-dev").guidance) == (5.0, 3.5)
    assert {pruning_preset(name).accumulate for name in PRESETS} == {4}
    assert {pruning_preset(name).weight_decay for name in PRESETS} == {0.01}
    assert pruning_preset("SDXL", epochs=1).updates == 25  # "about 25 updates per epoch on 100 prompts"
    with pytest.raises(FoundryError, match="no settings for 'SDXXL'; did you mean 'SDXL'"):
        pruning_preset("SDXXL")
    with pytest.raises(FoundryError, match="pruning settings of 'SDXL': 'beta' is -1"):
        pruning_preset("SDXL", beta=-1)
    with pytest.raises(FoundryError, match="are all 0; give one a rate"):
        pruning_preset("SDXL", heads_learning_rate=0, ffn_learning_rate=0)


def test_options_have_the_relaxation_s_constants() -> None:
    o = PruningOptions()
    assert HardConcrete(o.alpha, o.zeta, o.gamma, o.delta) == HardConcrete()
