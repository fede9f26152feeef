"""Patching: own cache is the identity, all layers are the target, and a layer that alone sees text is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.pruning.stand_ins import SCHEDULERS, FakeDenoiser, frozen, prompts_for
from training.conditioning import Condition
from training.errors import FoundryError
from training.localization import KEYS_VALUES, Patched, Recorded, Site, TextCache, TextLayer, text_layers
from training.localization.lockstep import Prompts, Variant, draw_variants
from training.sampling.control import Window
from training.sampling.denoising_loop import sample_latents

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
SEEDS, SIZE, STEPS = [3, 4], (8, 8), 4
CASES = [
    ("UNet-tiny", "Euler ancestral", 3.0),
    ("UNet-tiny", "DDIM", 1.0),
    ("SDXL-stock-tiny", "DPM-Solver++ 2", 3.0),
    ("IF-XL-demo-c32", "DDIM", 3.0),
    ("PixArt-tiny", "flow DPM-Solver++ 2", 3.0),
    ("SD3-tiny", "flow Euler", 3.0),
    ("FLUX-tiny", "flow Euler", 3.5),
]
families = pytest.mark.parametrize(("name", "scheduler", "guidance"), CASES)


def denoiser_of(name: str, scheduler: str) -> FakeDenoiser:
    return FakeDenoiser(frozen(name, torch.float32), SCHEDULERS[scheduler])


def target_of(source: Condition) -> Condition:
    """Another prompt with the same pooled text, which is never patched."""
    return replace(source, states=source.states.flip(-1) + 0.3)


def drawn(denoiser: FakeDenoiser, condition: Condition, guidance: float, control: Any = None) -> Tensor:
    with torch.no_grad():
        return sample_latents(denoiser, condition, SEEDS, STEPS, guidance, SIZE, control=control)


def recorded(
    denoiser: FakeDenoiser,
    condition: Condition,
    guidance: float,
    layers: Sequence[TextLayer],
    sites: Sequence[Site] = KEYS_VALUES,
) -> TextCache:
    cache = TextCache()
    drawn(denoiser, condition, guidance, Recorded(layers, cache, sites))
    return cache


@families
def test_own_cache_changes_no_bit(name: str, scheduler: str, guidance: float) -> None:
    denoiser = denoiser_of(name, scheduler)
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    plain = drawn(denoiser, source, guidance)
    for sites in (KEYS_VALUES, ("output",)):
        cache = recorded(denoiser, source, guidance, layers, sites)
        assert cache.num_bytes > 0
        assert torch.equal(drawn(denoiser, source, guidance, Patched(layers, cache, sites)), plain)


@families
def test_keys_and_values_of_all_layers_are_all_that_pictures_see_of_the_text(
    name: str, scheduler: str, guidance: float
) -> None:
    denoiser = denoiser_of(name, scheduler)
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    target = target_of(source)
    cache = recorded(denoiser, target, guidance, layers)
    patched = drawn(denoiser, source, guidance, Patched(layers, cache))
    wanted = drawn(denoiser, target, guidance)
    if denoiser.backbone.config.get("addition_embed_type") == "text":
        assert not torch.equal(
            patched, wanted
        )  # IF pools the states itself, and pooled text stays the source's
    else:
        assert torch.equal(patched, wanted)
    assert not torch.equal(patched, drawn(denoiser, source, guidance))


@families
def test_a_window_that_is_over_patches_nothing(name: str, scheduler: str, guidance: float) -> None:
    denoiser = denoiser_of(name, scheduler)
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    cache = recorded(denoiser, target_of(source), guidance, layers)
    plain = drawn(denoiser, source, guidance)
    never = Patched(layers, cache, window=Window(1.0, 1.0))
    assert torch.equal(drawn(denoiser, source, guidance, never), plain)
    late = Patched(layers, cache, window=Window(0.5))
    assert not torch.equal(drawn(denoiser, source, guidance, late), plain)


@families
def test_lockstep_equals_one_variant_after_the_other(name: str, scheduler: str, guidance: float) -> None:
    denoiser = denoiser_of(name, scheduler)
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    target, window = target_of(source), Window(0.25)
    variants = [
        *(Variant(layer.name, (layer,), window=window) for layer in layers),
        Variant("values", layers, ("values",), window),
        Variant("maps", layers, ("queries", "keys"), Window(0.0, 0.5), prompt="target"),
    ]
    found = draw_variants(
        denoiser,
        Prompts(source, target, SEEDS),
        variants,
        steps=STEPS,
        guidance=guidance,
        latent_size=SIZE,
        rows_at_once=8,
    )  # two variants at once
    torch.testing.assert_close(found.source, drawn(denoiser, source, guidance))
    torch.testing.assert_close(found.target, drawn(denoiser, target, guidance))
    for variant in variants:
        own, other = (source, target) if variant.prompt == "source" else (target, source)
        cache = recorded(denoiser, other, guidance, variant.layers, variant.sites)
        control = Patched(variant.layers, cache, variant.sites, variant.window)
        plain = drawn(denoiser, own, guidance, control)
        torch.testing.assert_close(found.variants[variant.name], plain, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "scheduler"), [("UNet-tiny", "DDIM"), ("SD3-tiny", "flow Euler"), ("FLUX-tiny", "flow Euler")]
)
def test_a_layer_that_alone_gives_pictures_the_text_is_found(name: str, scheduler: str) -> None:
    denoiser = denoiser_of(name, scheduler)
    layers = text_layers(denoiser.backbone)
    planted = len(layers) - 1
    hidden = [layer for number, layer in enumerate(layers) if number != planted]
    with torch.no_grad():
        for layer in hidden:  # keys too: pictures share a softmax with them in joint attention
            for parameter in (*layer.keys.parameters(), *layer.values.parameters()):
                parameter.zero_()
    source = prompts_for(denoiser.backbone, 2)
    prompts = Prompts(source, target_of(source), SEEDS)
    variants = [Variant(str(number), (layer,)) for number, layer in enumerate(layers)]
    found = draw_variants(denoiser, prompts, variants, steps=STEPS, guidance=1.0, latent_size=SIZE)
    to_target = {key: float((rows - found.target).abs().max()) for key, rows in found.variants.items()}
    to_source = {key: float((rows - found.source).abs().max()) for key, rows in found.variants.items()}
    assert float((found.source - found.target).abs().max()) > 1e-3
    assert min(to_target, key=to_target.__getitem__) == str(planted)
    assert to_target[str(planted)] < 1e-4
    assert all(distance < 1e-4 for key, distance in to_source.items() if key != str(planted))


@torch.no_grad()
def test_one_unguided_step_of_the_target_is_enough_where_text_is_a_function_of_the_prompt() -> None:
    denoiser = denoiser_of("UNet-tiny", "DDIM")
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)[:2]
    target, once = target_of(source), TextCache(is_held=True)
    drawn(denoiser, target, 1.0, Recorded(layers, once, window=Window(0.0, 1 / STEPS)))
    assert {step for _, step, _, _ in once.rows} == {0}
    by_once = drawn(denoiser, source, 3.0, Patched(layers, once))
    by_all = drawn(denoiser, source, 3.0, Patched(layers, recorded(denoiser, target, 3.0, layers)))
    torch.testing.assert_close(by_once, by_all)


def test_pictures_sampled_in_parts_find_what_was_recorded_of_their_part() -> None:
    denoiser = denoiser_of("SD3-tiny", "flow Euler")
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    cache = TextCache()
    for row in range(2):
        own, part = source.part(row, row + 1), Recorded(layers, cache).part(row, row + 1)
        with torch.no_grad():
            sample_latents(denoiser, own, SEEDS[row : row + 1], STEPS, 1.0, SIZE, control=part)
    for row in range(2):
        own, patch = source.part(row, row + 1), Patched(layers, cache).part(row, row + 1)
        with torch.no_grad():
            plain = sample_latents(denoiser, own, SEEDS[row : row + 1], STEPS, 1.0, SIZE)
            found = sample_latents(denoiser, own, SEEDS[row : row + 1], STEPS, 1.0, SIZE, control=patch)
        assert torch.equal(found, plain)


def test_what_does_not_fit_is_told_before_or_at_the_step() -> None:
    denoiser = denoiser_of("PixArt-tiny", "flow Euler")
    source, layers = prompts_for(denoiser.backbone, 2), text_layers(denoiser.backbone)
    cache = recorded(denoiser, source, 3.0, layers[:1])
    only_keys = TextCache({key: rows for key, rows in cache.rows.items() if key[3] == "keys"})
    with pytest.raises(
        FoundryError, match=r"values of 'transformer_blocks.0.attn2' were not recorded at step 0"
    ):
        drawn(denoiser, source, 3.0, Patched(layers[:1], only_keys))
    with pytest.raises(FoundryError, match=r"\(4, 3, .*were recorded .* where \(2, 3, "):
        drawn(denoiser, source, 1.0, Patched(layers[:1], cache))
    with pytest.raises(FoundryError, match="targets 4; pad both alike"):
        Prompts(source, prompts_for(denoiser.backbone, 2, tokens=4), SEEDS)
    with pytest.raises(FoundryError, match="3 seeds; give one a pair"):
        Prompts(source, source, [1, 2, 3])
    shorter = replace(source, mask=torch.tensor([[True] * 3, [True, True, False]]))
    prompts = Prompts(source, shorter, SEEDS, [("STOP", "OPEN"), ("GO", "HALT")])
    with pytest.raises(
        FoundryError, match="'GO' and 'HALT' have 3 and 2 text tokens, which this model tells apart"
    ):
        draw_variants(denoiser, prompts, [], steps=2, guidance=1.0, latent_size=SIZE)
    prompts = Prompts(source, source, SEEDS)
    twice = [Variant("a", layers), Variant("a", layers)]
    with pytest.raises(FoundryError, match="named a, a; give each a name of its own"):
        draw_variants(denoiser, prompts, twice, steps=2, guidance=1.0, latent_size=SIZE)
