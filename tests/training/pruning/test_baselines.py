"""Scores of the baselines against brute force: models really pruned, finite differences, blocks really removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.pruning.families import FAMILIES, groups_of, kinds_of, model_of
from tests.training.pruning.stand_ins import SCHEDULERS, FakeDenoiser, frozen, full_graph_latents, prompts_for
from training.backbones import denoise
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.feed.latents import LatentBatch
from training.pruning import baselines, keep_best, masked, prune, unit_groups
from training.pruning.baselines import (
    block_of,
    block_scores,
    magnitude_scores,
    random_scores,
    taylor_scores,
)
from training.recipes.pruning import BlockRemovalOptions, PruningOptions, TaylorOptions

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
HEADS_FFN: Any = ("heads", "ffn")


def squared_norm(backbone: Any) -> float:
    return sum(float(parameter.detach().double().square().sum()) for parameter in backbone.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_magnitude_is_the_norm_of_what_removal_takes(name: str) -> None:
    backbone = model_of(name)
    groups = groups_of(backbone)
    found = magnitude_scores(backbone, kinds_of(name == "flux"))
    assert list(found) == [group.key for group in groups]
    whole = squared_norm(backbone)
    for place, group in enumerate(groups):
        unit = (5 * place) % group.num_units
        keep = torch.ones(group.num_units, dtype=torch.bool)
        keep[unit] = False
        wanted = whole - squared_norm(prune(backbone, {group.key: keep}))
        assert float(found[group.key][unit]) ** 2 == pytest.approx(wanted, rel=1e-5), group.key


def test_random_scores_are_a_function_of_seed_and_name() -> None:
    backbone = model_of("flux")
    both = random_scores(backbone, ("heads", "norm"), 3)
    assert {key: len(value) for key, value in both.items()} == {
        group.key: group.num_units for group in unit_groups(backbone, ("heads", "norm"))
    }
    alone = random_scores(backbone, ("norm",), 3)
    assert all(torch.equal(value, both[key]) for key, value in alone.items())
    values = torch.cat([*both.values(), *random_scores(backbone, ("heads", "norm"), 4).values()])
    assert len(values.unique()) > 0.99 * len(values)
    assert 0 <= values.min() < 0.02 < 0.98 < values.max() <= 1


def latents_of(
    count: int, channels: int = 4, width: int = 16, dtype: torch.dtype = torch.float32
) -> LatentBatch:
    draw = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(dtype)

    mask = torch.ones(count, 3, dtype=torch.bool)
    mask[-1, 1:] = False
    latents, states = normal(count, channels, 8, 8), normal(count, 3, width)
    return LatentBatch(latents, Condition(states, mask), np.zeros(count, np.int64))


def test_taylor_scores_are_finite_differences_of_the_denoising_loss() -> None:
    backbone = model_of("pixart").double()
    batch, noising, options = (
        latents_of(3),
        Noising("v"),
        TaylorOptions(samples=2, noise_levels=3, threshold=0.0),
    )
    found = taylor_scores(backbone, noising, batch, HEADS_FFN, options, seed=7)
    noise = baselines._noise_of(batch, 2, 7)
    masks = {key: torch.ones(len(value), dtype=torch.float64) for key, value in found.items()}

    @torch.no_grad()
    def loss() -> float:
        total = 0.0
        for index in range(3):
            t = torch.full((2,), (index + 0.5) / 3)
            noisy = noising.add_noise(batch.latents[:2], noise, t).double()
            with masked(backbone, masks.__getitem__):
                condition = batch.condition.part(0, 2).to(dtype=torch.float64)
                output = denoise(backbone, noisy, noising.timestep(t), condition)
            total += float((output - noising.target(batch.latents[:2], noise, t)).square().mean())
        return total

    step = 1e-4
    for key, mask in masks.items():
        unit = len(mask) - 1
        mask[unit] = 1 + step
        above = loss()
        mask[unit] = 1 - step
        below = loss()
        mask[unit] = 1
        assert abs(above - below) / (2 * step) == pytest.approx(float(found[key][unit]), rel=1e-3, abs=1e-8)
        assert found[key][unit] > 0


def test_taylor_scores_do_not_depend_on_batches_nor_on_further_latents() -> None:
    backbone = model_of("pixart")

    def scores(count: int, batch_size: int, seed: int = 0) -> Tensor:
        options = TaylorOptions(samples=3, noise_levels=2, batch_size=batch_size)
        found = taylor_scores(backbone, Noising("flow"), latents_of(count), HEADS_FFN, options, seed)
        return torch.cat(list(found.values()))

    # the generator fills latents first: those of one more sample would be others
    torch.testing.assert_close(scores(3, 2), scores(3, 16), rtol=1e-4, atol=1e-7)
    assert not torch.allclose(scores(3, 3), scores(3, 3, seed=1), rtol=1e-2)
    more = latents_of(4)
    part = LatentBatch(more.latents[:3], more.condition.part(0, 3), more.captions[:3])
    options = TaylorOptions(samples=3, noise_levels=2)
    one, other = (taylor_scores(backbone, Noising("flow"), b, HEADS_FFN, options, 0) for b in (more, part))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    with pytest.raises(FoundryError, match="'samples' is 3, but 2 latents are given"):
        scores(2, 2)


def test_pooled_text_reaches_the_backbones_that_take_it() -> None:
    backbone = model_of("flux")
    batch = latents_of(1)
    with pytest.raises(FoundryError, match="pooled"):
        taylor_scores(backbone, Noising("flow"), batch, ("ffn",), TaylorOptions(samples=1, noise_levels=1), 0)
    batch = replace(batch, condition=replace(batch.condition, pooled=torch.ones(1, 24)))
    options = TaylorOptions(samples=1, noise_levels=1)
    found = taylor_scores(backbone, Noising("flow"), batch, ("heads", "ffn", "norm"), options, 0)
    assert all(bool((value > 0).any()) for value in found.values())


def test_a_noise_level_with_little_loss_ends_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest loss is the largest so far; the ending level takes no part; signs cancel before they are dropped."""
    losses = [1.0, 2.0, 0.5, 0.09, 5.0]
    slopes = [3.0, -7.0, 1.0, 100.0, 100.0]
    seen: list[float] = []

    def level_gradients(*given: Any) -> tuple[float, list[Tensor]]:
        index = len(seen)
        seen.append(given[4])
        return losses[index], [torch.full_like(gate, slopes[index]) for gate in given[-1].values()]

    monkeypatch.setattr(baselines, "_level_gradients", level_gradients)
    lines: list[str] = []
    options = TaylorOptions(samples=1, noise_levels=5)
    found = taylor_scores(
        model_of("pixart"), Noising("epsilon"), latents_of(1), HEADS_FFN, options, 0, lines.append
    )
    assert seen == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert all(bool((value == 3).all()) for value in found.values())
    assert lines[-1] == "taylor: ends here, at 0.045 of the largest loss"


@pytest.mark.parametrize(
    ("backbone", "scheduler"), [("PixArt-demo-h64-d4", "DDIM"), ("FLUX-demo-h64-d2-s4", "flow Euler")]
)
def test_a_block_s_score_is_what_its_removal_does(backbone: str, scheduler: str) -> None:
    module = frozen(backbone, torch.float32)
    kinds: Any = kinds_of(backbone.startswith("FLUX"))
    denoiser = FakeDenoiser(module, SCHEDULERS[scheduler])
    prompts = prompts_for(module, 3)
    options = PruningOptions(steps=2, guidance=2.0, block_removal=BlockRemovalOptions(prompts=2))
    found = block_scores(denoiser, prompts, kinds, options, 4, (8, 8))
    assert [(key, len(value)) for key, value in found.items()] == [
        (group.key, group.num_units) for group in unit_groups(module, kinds)
    ]

    def finals(model: Any) -> Tensor:
        own = FakeDenoiser(model, SCHEDULERS[scheduler])
        with torch.no_grad():
            return torch.cat(
                [full_graph_latents(own, prompts.part(i, i + 1), [4], 2, 2.0, _NoMasks()) for i in range(2)]
            )

    dense = finals(module)
    for block in {block_of(key) for key in found}:
        own = {key: value for key, value in found.items() if block_of(key) == block}
        pruned = prune(module, {key: torch.zeros(len(value), dtype=torch.bool) for key, value in own.items()})
        wanted = float((finals(pruned) - dense).square().mean())
        assert wanted > 0
        for value in own.values():
            torch.testing.assert_close(value, torch.full_like(value, wanted), rtol=1e-3, atol=0)


class _NoMasks:
    step = 0


def test_equal_scores_remove_whole_blocks() -> None:
    module = frozen("PixArt-demo-h64-d4", torch.float32)
    options = PruningOptions(steps=1, guidance=1.0, block_removal=BlockRemovalOptions(prompts=1))
    denoiser = FakeDenoiser(module, SCHEDULERS["DDIM"])
    scores = block_scores(denoiser, prompts_for(module), HEADS_FFN, options, 0)
    kept = keep_best(scores, {"heads": 0.5, "ffn": 0.5}, "global")
    by_block: dict[str, set[bool]] = {}
    for key, mask in kept.items():
        by_block.setdefault(block_of(key), set()).update(mask.tolist())
    assert sorted(map(sorted, by_block.values())) == [[False], [False], [True], [True]]
    best = sorted(by_block, key=lambda block: -float(scores["ffn", f"{block}.ff"][0]))
    assert [by_block[block] for block in best] == [{True}, {True}, {False}, {False}]
    with pytest.raises(FoundryError, match="'block_removal.prompts' is 1, but 0 are given"):
        block_scores(denoiser, prompts_for(module).part(0, 0), HEADS_FFN, options, 0)
