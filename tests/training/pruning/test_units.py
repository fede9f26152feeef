"""Units and what they weigh: the counts of sheet sections 1 and 8, on the meta device."""

from __future__ import annotations

from collections import Counter

import pytest

from training.backbones import blueprint, build_backbone, build_on_meta, variant
from training.errors import FoundryError
from training.pruning.units import UnitGroup, unit_groups

FLUX_KINDS = ("heads", "ffn", "norm")


def totals(groups: list[UnitGroup]) -> tuple[int, int, int]:
    return len(groups), sum(group.num_units for group in groups), sum(group.parameters for group in groups)


def test_sdxl_s_units() -> None:
    backbone = blueprint("SDXL-stock")
    groups = unit_groups(backbone)
    heads = [group for group in groups if group.kind == "heads"]
    neurons = [group for group in groups if group.kind == "ffn"]
    assert totals(heads) == (140, 2_600, 955_187_200)
    assert totals(neurons) == (70, 332_800, 1_229_465_600)
    weight = {
        (group.name[-5:], group.num_units): group.parameters_per_unit for group in heads
    }  # width 640 has 10 heads, 1280 has 20
    assert weight == {
        ("attn1", 10): 163_840,
        ("attn1", 20): 327_680,
        ("attn2", 10): 344_064,
        ("attn2", 20): 425_984,
    }
    assert {(group.num_units, group.parameters_per_unit) for group in neurons} == {
        (2560, 1_922),
        (5120, 3_842),
    }
    params = sum(parameter.numel() for parameter in backbone.parameters())
    assert params == 2_567_463_684
    assert f"{sum(group.parameters for group in groups) / params:.2%}" == "85.09%"


@pytest.mark.parametrize(("name", "params"), [("schnell", 11_891_178_560), ("dev", 11_901_408_320)])
def test_flux_s_units(name: str, params: int) -> None:
    backbone = build_on_meta(variant(f"FLUX.1-{name}"))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == params
    groups = unit_groups(backbone, FLUX_KINDS)
    heads = [group for group in groups if group.kind == "heads"]
    assert totals(heads) == (57, 1_368, 2_869_604_352)
    assert Counter((group.num_units, group.parameters_per_unit) for group in heads) == {
        (24, 3_146_496): 19,
        (24, 1_573_248): 38,
    }
    neurons = [group for group in groups if group.kind == "ffn"]
    single = [group for group in neurons if group.name.endswith(".act_mlp")]
    double = [group for group in neurons if not group.name.endswith(".act_mlp")]
    assert totals(single) == totals(double) == (38, 466_944, 2_869_370_880)
    assert {group.parameters_per_unit for group in neurons} == {6_145}
    channels = [group for group in groups if group.kind == "norm"]
    assert totals(channels) == (76, 1_050_624, 3_228_567_552)
    assert {group.parameters_per_unit for group in channels} == {3_073}
    assert Counter(group.num_units for group in channels) == {18_432: 38, 9_216: 38}


def test_flux_s_legacy_choice() -> None:
    groups = unit_groups(blueprint("FLUX.1-schnell"), FLUX_KINDS, legacy=True)
    assert Counter(group.kind for group in groups) == {"heads": 57, "ffn": 38, "norm": 19}
    assert all(group.name.endswith("norm1_context") for group in groups if group.kind == "norm")
    assert not any(group.name.endswith("act_mlp") for group in groups)


def test_names_are_the_modules_own() -> None:
    backbone = build_backbone("FLUX-demo-h64-d2-s4", 0)
    names = [group.name for group in unit_groups(backbone, FLUX_KINDS)]
    block = "transformer_blocks.0"
    assert names[:5] == [f"{block}.{part}" for part in ("attn", "ff", "ff_context", "norm1", "norm1_context")]
    single = "single_transformer_blocks.0"
    start = names.index(f"{single}.attn")
    assert names[start : start + 3] == [f"{single}.attn", f"{single}.act_mlp", f"{single}.norm"]
    for name in names:
        backbone.get_submodule(name)


def test_the_last_block_of_sd3_has_no_text_stream() -> None:
    groups = {group.key: group for group in unit_groups(build_backbone("SD3-demo-h128-d4", 0))}
    assert ("ffn", "transformer_blocks.2.ff_context") in groups
    assert ("ffn", "transformer_blocks.3.ff_context") not in groups
    width, head = 128, 64
    both = 6 * (width + 1) + 2 * width  # q, k, v of both streams with biases, both output projections
    assert groups["heads", "transformer_blocks.0.attn"].parameters_per_unit == head * both
    assert groups["heads", "transformer_blocks.3.attn"].parameters_per_unit == head * (both - width)


def test_what_cannot_be_pruned_is_told() -> None:
    with pytest.raises(FoundryError, match="'norm' found, but only FLUX has adaLN"):
        unit_groups(blueprint("SDXL-tiny"), ("heads", "norm"))
    with pytest.raises(FoundryError, match="'blocks' found, allowed are heads, ffn, norm"):
        unit_groups(blueprint("SDXL-tiny"), ("blocks",))
    with pytest.raises(FoundryError, match="legacy: true found, but only FLUX"):
        unit_groups(blueprint("PixArt-tiny"), legacy=True)
    with pytest.raises(FoundryError, match="lies outside of the transformer blocks that are known"):
        unit_groups(blueprint("IF-XL-demo-c32"))
    with pytest.raises(FoundryError, match="the backbone is a Linear; known are UNet2DConditionModel"):
        unit_groups(blueprint("PixArt-tiny").proj_out)
    fused = build_backbone("PixArt-tiny", 0)
    fused.fuse_qkv_projections()
    with pytest.raises(FoundryError, match="computed by FusedAttnProcessor2_0; known are"):
        unit_groups(fused)


def test_adapters_are_to_be_fused_first() -> None:
    from peft import LoraConfig, inject_adapter_in_model

    for target in ("to_q", "net.2"):
        backbone = build_backbone("PixArt-tiny", 0)
        inject_adapter_in_model(LoraConfig(r=2, target_modules=[target]), backbone)
        with pytest.raises(
            FoundryError, match=rf"{target}' is a Linear, a plain torch.nn.Linear is needed; fuse"
        ):
            unit_groups(backbone)
