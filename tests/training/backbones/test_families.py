"""Every family: sizes against independent counts, conditions against the stock pipelines' own calls."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import FluxPipeline
from torch.utils.flop_counter import FlopCounterMode

from training.backbones import (
    BACKBONES,
    MATCHED_PAIRS,
    TRANSFORMER_BLOCKS,
    Variant,
    attentions,
    blueprint,
    build_backbone,
    build_variant,
    count_parameters,
    denoise,
    example_inputs,
    families,
    family_of,
    latent_shape,
    layer_costs,
    own_size,
    pack,
    pooled_dim,
    size_from_data,
    unpack,
    variant,
    variant_costs,
)
from training.conditioning import Condition
from training.errors import FoundryError

RELEASED = {
    "SDXL-stock": 2_567_463_684,
    "KOALA-1B": 1_161_184_324,
    "KOALA-700M": 782_822_724,
    "SD3-medium": 2_028_328_000,
    "FLUX.1-dev": 11_901_408_320,
    "FLUX.1-schnell": 11_891_178_560,
}


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_released_models_count_exactly(name: str) -> None:
    assert count_parameters(name) == RELEASED[name]
    assert all(parameter.is_meta for parameter in blueprint(name).parameters())


@pytest.mark.parametrize(
    ("name", "layers", "residuals", "tensors"),
    [("SDXL-stock", 70, 17, 1680), ("KOALA-1B", 30, 11, 790), ("KOALA-700M", 21, 9, 584)],
)
def test_koala_cuts_what_it_says(name: str, layers: int, residuals: int, tensors: int) -> None:
    model = blueprint(name)
    classes = [type(module).__name__ for module in model.modules()]
    assert classes.count("BasicTransformerBlock") == layers
    assert classes.count("ResnetBlock2D") == residuals
    assert len(model.state_dict()) == tensors


@pytest.mark.parametrize(
    "name", ["UNet-demo-c32-td1_5", "IF-XL-demo-c32", "SD3-tiny", "FLUX-demo-h64-d2-s4", "PixArt-demo-h64-d4"]
)
def test_costs_equal_a_full_walk(name: str) -> None:
    """Torch's own counter walks through every block; ours takes repeated blocks over and passes norms by."""
    model, costs = blueprint(name), variant_costs(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        example_inputs(model).call(model)
    assert 2 * sum(cost.macs + cost.product_macs for cost in costs.values()) == counter.get_total_flops()


def test_costs_are_told_by_layer() -> None:
    costs = variant_costs("SD3-tiny", 8, 77)
    assert costs["transformer_blocks.0.attn.to_q"].macs == 16 * 32 * 32
    assert costs["transformer_blocks.0.attn"].product_macs == 2 * 32 * (16 + 77) ** 2
    assert costs["transformer_blocks.0.attn"].macs == 0


def test_counting_leaves_the_model_as_it_was() -> None:
    model = build_backbone("UNet-tiny", 0).eval()
    inputs = example_inputs(model)
    before = inputs.call(model)
    meta = blueprint("UNet-tiny")
    layer_costs(meta, example_inputs(meta))
    assert not any(module._forward_hooks or "forward" in vars(module) for module in meta.modules())
    assert torch.equal(before, inputs.call(model))


def test_gpu_sizes_span_thirty_times() -> None:
    for prefix in ("UNet-gpu-c", "PixArt-gpu-h"):
        sizes = [count_parameters(name) for name in BACKBONES if name.startswith(prefix)]
        assert len(sizes) >= 6
        assert max(sizes) > 30 * min(sizes)
    assert latent_shape(blueprint("UNet-gpu-c128")) == (16, 32, 32)


def test_matched_pairs_are_within_three_percent() -> None:
    for first, second in MATCHED_PAIRS.values():
        sizes = count_parameters(first), count_parameters(second)
        assert max(sizes) < 1.03 * min(sizes), (first, second)
    inner, outer = MATCHED_PAIRS["attention_placement.demo"]
    assert count_parameters(inner) == count_parameters(outer)


def test_stock_conditioning_is_for_the_paper_rows_alone() -> None:
    assert count_parameters("SDXL", "stock") == RELEASED["SDXL-stock"]
    assert count_parameters("SDXL", "paper") == count_parameters("SDXL")
    assert variant("SD2", "stock") == variant("SD2")
    assert variant("KOALA-1B", "paper") == variant("KOALA-1B")


def test_flux_is_called_as_its_pipeline_calls_it() -> None:
    model = build_backbone("FLUX-tiny", 0).eval()
    noisy, states, pooled = torch.randn(2, 16, 4, 6), torch.randn(2, 5, 384), torch.randn(2, 384)
    given = Condition(states, torch.ones(2, 5), pooled, guidance=2.0)
    with torch.no_grad():
        found = denoise(model, noisy, torch.full((2,), 250.0), given)
        expected = model(
            FluxPipeline._pack_latents(noisy, 2, 16, 4, 6),
            timestep=torch.full((2,), 0.25),
            encoder_hidden_states=states,
            pooled_projections=pooled,
            guidance=torch.full((2,), 2.0),
            img_ids=FluxPipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32),
            txt_ids=torch.zeros(5, 3),
            return_dict=False,
        )[0]
    assert torch.equal(found, FluxPipeline._unpack_latents(expected, 32, 48, 8))
    assert torch.equal(unpack(pack(noisy), 4, 6), noisy)


def test_sd3_takes_pooled_text() -> None:
    model = build_backbone("SD3-tiny", 0).eval()
    inputs = example_inputs(model, batch=2, num_tokens=3)
    told = inputs.condition
    with torch.no_grad():
        expected = model(inputs.noisy, told.states, told.pooled, inputs.timestep, return_dict=False)[0]
        assert torch.equal(inputs.call(model), expected)
        with pytest.raises(FoundryError, match="'pooled' is missing; .* of width 384"):
            denoise(model, inputs.noisy, inputs.timestep, replace(told, pooled=None))


def text_time_unet() -> Variant:
    """A tiny UNet that is told pooled text of width 32 and SDXL's sizes."""
    config = {
        **BACKBONES["UNet-tiny"].config,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    }
    return Variant("SDXL", "UNet2DConditionModel", config)


def test_sdxl_takes_pooled_text_and_sizes() -> None:
    model = build_variant(text_time_unet()).eval()
    assert pooled_dim(model.config) == 32
    inputs = example_inputs(model, batch=2, num_tokens=3)
    sizes = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(2, 1)
    told = inputs.condition
    with torch.no_grad():
        expected = model(
            inputs.noisy,
            inputs.timestep,
            told.states,
            added_cond_kwargs={"text_embeds": told.pooled, "time_ids": sizes},
            return_dict=False,
        )[0]
        assert torch.equal(inputs.call(model), expected)
        cropped = denoise(model, inputs.noisy, inputs.timestep, replace(told, time_ids=sizes + 8))
    assert not torch.equal(cropped, expected)


def test_learned_variance_is_left_out() -> None:
    config = {**BACKBONES["PixArt-tiny"].config, "out_channels": 32}
    model = build_variant(Variant("PixArt", "PixArtTransformer2DModel", config)).eval()
    inputs = example_inputs(model, num_tokens=3)
    with torch.no_grad():
        found = inputs.call(model)
    assert found.shape == inputs.noisy.shape


def test_wrapped_models_are_recognised() -> None:
    model = build_backbone("PixArt-tiny", 0).eval()
    inputs = example_inputs(model, num_tokens=3)
    half = torch.tensor([[1.0, 0.0, 0.0]])
    parts, whole = (inputs.noisy, inputs.timestep), inputs.condition
    part = replace(whole, mask=half)
    compiled: Any = torch.compile(model, backend="eager")
    with torch.no_grad():
        assert torch.equal(denoise(compiled, *parts, part), denoise(model, *parts, part))
        assert not torch.equal(denoise(compiled, *parts, part), denoise(compiled, *parts, whole))


def test_odd_latents_cannot_be_packed() -> None:
    with pytest.raises(FoundryError, match="3 x 4; 2x2 packing needs even sides"):
        pack(torch.zeros(1, 16, 3, 4))


def test_every_family_is_one_row() -> None:
    wanted = {
        "UNet-tiny": "SD",
        "PixArt-tiny": "PixArt",
        "SD3-tiny": "SD3",
        "FLUX-tiny": "FLUX",
        "SDXL-stock": "SDXL",
    }
    for name, row in wanted.items():
        assert family_of(blueprint(name)) is families.FAMILIES[row]
    for own in families.FAMILIES.values():
        assert own.stock_class.__name__ == own.class_name
        assert isinstance(getattr(diffusers, own.pipeline.name), type)
        for name, module in own.own_classes.items():
            assert issubclass(getattr(importlib.import_module(module), name), own.stock_class)
    with pytest.raises(FoundryError, match="the backbone is a Linear; known are UNet2DConditionModel, "):
        family_of(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["UNet-tiny", "PixArt-tiny", "SD3-tiny", "FLUX-tiny"])
def test_rows_find_every_attention_and_block(name: str) -> None:
    model = blueprint(name)
    found = dict(attentions(model))
    every = {
        own
        for own, module in model.named_modules()
        if type(module).__name__ in ("Attention", "FluxAttention")
    }
    assert found.keys() == every
    assert found
    assert {
        type(module).__name__
        for own, module in model.named_modules()
        if type(module).__name__ in TRANSFORMER_BLOCKS
    }


def test_a_compiled_pass_asks_the_row_too() -> None:
    model = build_backbone("PixArt-tiny", 0).eval()
    inputs = example_inputs(model, num_tokens=3)
    compiled: Any = torch.compile(denoise, backend="eager")
    with torch.no_grad():
        assert torch.equal(
            compiled(model, inputs.noisy, inputs.timestep, inputs.condition), inputs.call(model)
        )


def test_sizes_are_a_model_s_own_or_the_data_s() -> None:
    flux, pixart = blueprint("FLUX-tiny"), blueprint("PixArt-tiny")
    assert own_size(flux) is None
    assert size_from_data(flux, (16, 8, 12)) == (8, 12)
    assert own_size(pixart) == (8, 8)
    assert size_from_data(pixart, (16, 8, 12)) is None
