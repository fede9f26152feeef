"""One type for what a backbone is told: rows, nulls, doubling, and what families take, need and refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.pretrained_pipelines import POOLED, flux, pixart, sd3, sdxl_unet, unet, write_shards
from training.backbones import control_channels, denoise, example_inputs, latent_shape, pack
from training.conditioning import Condition, Placed
from training.errors import FoundryError
from training.feed.conditions import alt_texts
from training.model_folders.probe import probe
from training.shards import TrainingShards


def condition(rows: int = 3, tokens: int = 4, seed: int = 0, **more: Any) -> Condition:
    draw = torch.Generator().manual_seed(seed)
    states, pooled = (torch.randn(*shape, generator=draw) for shape in ((rows, tokens, 5), (rows, 6)))
    return Condition(states, torch.arange(tokens).repeat(rows, 1) < 2, pooled, **more)


def full(rows: int = 3) -> Condition:
    own = condition(
        rows,
        time_ids=torch.arange(6.0).repeat(rows, 1) + torch.arange(rows)[:, None],
        layout=Placed(torch.rand(rows, 2, 4), torch.rand(rows, 2, 1, 7), torch.rand(rows, 2) > 0.5, 0.5),
        control=torch.rand(rows, 4, 8, 8),
        attention_mask=torch.rand(rows, 3, 3) > 0.5,
        guidance=2.0,
    )
    return own.with_null(condition(1, seed=1))


def test_parts_carry_every_place_and_keep_the_null() -> None:
    whole = full()
    part = whole.part(1, 3)
    assert (len(whole), len(part), part.guidance) == (3, 2, 2.0)
    for name, rows in whole._tensors().items():
        assert torch.equal(getattr(part, name), rows[1:3])
    assert part.null is whole.null
    assert whole.layout is not None
    assert part.layout is not None
    assert torch.equal(part.layout.phrases, whole.layout.phrases[1:3])
    assert part.layout.strength == 0.5


def test_numbers_change_their_format_and_masks_do_not() -> None:
    moved = full().to("cpu", torch.float16)
    assert moved.null is not None
    assert moved.mask.dtype == moved.null.mask.dtype == torch.bool
    found = {
        name: rows.dtype for name, rows in moved._tensors().items() if name not in ("mask", "attention_mask")
    }
    assert set(found.values()) == {torch.float16}
    assert len(found) == 4
    assert moved.layout is not None
    assert (moved.layout.phrases.dtype, moved.layout.there.dtype) == (torch.float16, torch.bool)
    assert moved.null.states.dtype == torch.float16
    counted = replace(condition(), mask=torch.ones(3, 4)).to(dtype=torch.float16)
    assert counted.mask.dtype == torch.float32


def test_doubled_has_the_null_first_and_shares_what_the_null_does_not_name() -> None:
    whole = full()
    both = whole.doubled()
    assert both.null is None
    assert len(both) == 6
    null = whole.null
    assert null is not None
    for row in range(3):
        for name in ("states", "mask", "pooled"):
            assert torch.equal(getattr(both, name)[row], getattr(null, name)[0])
        for name, rows in whole._tensors().items():
            assert torch.equal(getattr(both, name)[3 + row], rows[row])
        for name in ("time_ids", "control", "attention_mask"):
            assert torch.equal(getattr(both, name)[row], getattr(whole, name)[row])
    assert whole.layout is not None
    assert both.layout is not None
    assert torch.equal(both.layout.there, whole.layout.there.repeat(2, 1))
    own = replace(null, layout=whole.layout.left_out().each(lambda rows: rows[:1]))
    apart = whole.with_null(own).doubled().layout
    assert apart is not None
    assert not apart.there[:3].any()
    assert torch.equal(apart.there[3:], whole.layout.there)


@pytest.mark.parametrize("tokens", [2, 4, 7])
def test_a_null_of_another_length_is_cut_or_padded(tokens: int) -> None:
    null = condition(1, tokens, seed=1)
    both = condition().with_null(null).doubled()
    kept = min(tokens, 4)
    assert torch.equal(both.states[0, :kept], null.states[0, :kept])
    assert not both.states[0, kept:].any()
    assert both.mask[0].tolist() == [True, True, False, False]


def test_dropped_rows_become_the_null() -> None:
    whole = full()
    found = whole.dropped(torch.tensor([False, True, False]))
    null = whole.null
    assert null is not None
    assert torch.equal(found.states[1], null.states[0])
    assert torch.equal(found.pooled[1], null.pooled[0])  # type: ignore[index]
    assert torch.equal(found.control, whole.control)  # type: ignore[arg-type]
    for row in (0, 2):
        assert torch.equal(found.states[row], whole.states[row])
    assert found.null is null


def test_guidance_needs_a_null_of_the_same_kind() -> None:
    with pytest.raises(FoundryError, match="'null' of the condition is missing"):
        condition().doubled()
    bare = replace(condition(1), pooled=None)
    with pytest.raises(FoundryError, match="the condition has pooled text and the null has none"):
        condition().with_null(bare).doubled()


def test_stored_texts_have_pooled_and_a_null(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    shards = TrainingShards.open(write_shards(tmp_path / "shards", tmp_path / "vae"))
    rows = np.array([4, 0])
    found = alt_texts(shards, rows)
    texts = shards.text_of(rows, np.zeros(2, np.int64))
    slow = shards.gather_text(np.append(texts, 0), shards.description.max_tokens)
    assert found.null is not None
    assert np.array_equal(torch.cat([found.states, found.null.states]).numpy(), slow.states)
    assert np.array_equal(torch.cat([found.mask, found.null.mask]).numpy(), slow.mask)
    assert found.pooled is not None
    assert found.null.pooled is not None
    pooled = torch.cat([found.pooled, found.null.pooled]).numpy()
    assert np.array_equal(pooled, shards.pooled(np.append(texts, 0)).astype(np.float32))


FAMILIES = {"sd2": unet, "sdxl": sdxl_unet, "pixart": pixart, "sd3": sd3, "flux": flux}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("place", ["layout", "attention_mask", "time_ids", "control"])
def test_what_a_family_cannot_take_is_refused_by_name(name: str, place: str) -> None:
    model = FAMILIES[name]().eval()
    inputs = example_inputs(model, 2, 8, num_tokens=3)
    given: dict[str, Any] = {
        "layout": Placed(torch.zeros(2, 1, 4), torch.zeros(2, 1, 1, 3), torch.ones(2, 1, dtype=torch.bool)),
        "attention_mask": torch.ones(2, 3, 3),
        "time_ids": torch.zeros(2, 6),
        "control": torch.zeros(2, 4, 8, 8),
    }
    told = replace(inputs.condition, **{place: given[place]})
    with torch.no_grad():
        if (name, place) == ("sdxl", "time_ids"):
            assert denoise(model, inputs.noisy, inputs.timestep, told).shape == inputs.noisy.shape
            return
        with pytest.raises(FoundryError, match=f"'{place}'"):
            denoise(model, inputs.noisy, inputs.timestep, told)


def test_control_variants_of_flux_read_control_latents_behind_the_noisy_ones() -> None:
    model = flux(in_channels=32, out_channels=16).eval()
    assert control_channels(model) == 4
    assert latent_shape(model)[0] == 4
    inputs = example_inputs(model, 2, 8, num_tokens=3)
    control, seen = inputs.condition.control, []
    assert control is not None
    model.x_embedder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        found = inputs.call(model)
    assert found.shape == inputs.noisy.shape
    assert torch.equal(seen[0], torch.cat([pack(inputs.noisy), pack(control)], dim=2))
    with pytest.raises(FoundryError, match="'control' has 0 channels of latents, this .* takes 4"):
        denoise(model, inputs.noisy, inputs.timestep, replace(inputs.condition, control=None))
    assert probe(model).shape[1] == 4


def test_unets_read_control_latents_as_further_channels() -> None:
    model = unet().eval()
    wide = type(model)(**{**model.config, "in_channels": 9}).eval()
    assert (control_channels(model), control_channels(wide), latent_shape(wide)[0]) == (0, 5, 4)
    inputs = example_inputs(wide, 2, num_tokens=3)
    told = inputs.condition
    assert told.control is not None
    with torch.no_grad():
        slow = wide(
            torch.cat([inputs.noisy, told.control], 1), inputs.timestep, told.states, return_dict=False
        )[0]
        assert torch.equal(inputs.call(wide), slow)


def test_pooled_text_is_carried_past_families_that_read_none() -> None:
    model = pixart().eval()
    inputs = example_inputs(model, 2, num_tokens=3)
    with torch.no_grad():
        told = replace(inputs.condition, pooled=torch.zeros(2, POOLED))
        assert torch.equal(denoise(model, inputs.noisy, inputs.timestep, told), inputs.call(model))
