"""Text layers are those that the paper counts, in its order, with its shares, of the real shapes."""

from __future__ import annotations

from typing import Any

import pytest

from training.backbones import blueprint, build_backbone, count_parameters
from training.errors import FoundryError
from training.localization import layers_named, text_layers

PUBLISHED = [  # arXiv 2502.09935, table of located layers: how many, which, their modules, parameters, share
    (
        "SDXL-stock",
        70,
        (55, 56, 57),
        [f"up_blocks.0.attentions.2.transformer_blocks.{block}.attn2" for block in (1, 2, 3)],
        15_728_640,
        "0.61%",
    ),
    ("IF-I-XL", 22, (17,), ["up_blocks.1.attentions.3"], 2 * 2112 * (2816 + 1), "0.28%"),
    ("SD3-medium", 24, (10,), ["transformer_blocks.10.attn"], 4_721_664, "0.23%"),
]


@pytest.mark.parametrize(("name", "count", "places", "modules", "parameters", "share"), PUBLISHED)
def test_the_published_layers_stand_where_the_paper_counts_them(
    name: str, count: int, places: tuple[int, ...], modules: list[str], parameters: int, share: str
) -> None:
    layers = text_layers(blueprint(name))
    located = [layers[place] for place in places]
    assert len(layers) == count
    assert [layer.name for layer in located] == modules
    assert sum(layer.num_parameters for layer in located) == parameters
    assert f"{parameters / count_parameters(name):.2%}" == share


def test_the_order_is_that_of_execution_not_of_modules() -> None:
    names = [layer.name for layer in text_layers(blueprint("SDXL-stock"))]
    assert [name.split("_")[0] for name in names] == ["down"] * 24 + ["mid"] * 10 + ["up"] * 36
    # As modules are named the middle comes last, and the paper's 55 would be another layer.
    in_order_of_modules = sorted(names, key=lambda name: ("down", "up", "mid").index(name.split("_")[0]))
    assert in_order_of_modules[55] == "up_blocks.1.attentions.0.transformer_blocks.1.attn2"


def test_flux_has_double_and_single_blocks_and_single_ones_share_their_weights() -> None:
    layers = text_layers(blueprint("FLUX.1-dev"))
    assert [layer.is_shared for layer in layers] == [False] * 19 + [True] * 38
    assert layers[0].keys is layers[0].attention.add_k_proj
    assert layers[19].name == "single_transformer_blocks.0.attn"
    assert layers[19].keys is layers[19].attention.to_k


@pytest.mark.parametrize(
    ("name", "joint"),
    [
        ("UNet-tiny", False),
        ("SDXL-stock-tiny", False),
        ("PixArt-tiny", False),
        ("SD3-tiny", True),
        ("FLUX-tiny", True),
    ],
)
def test_real_weights_are_not_touched(name: str, joint: bool) -> None:
    model = build_backbone(name, 0)
    before = {key: (tensor.data_ptr(), tensor.device) for key, tensor in model.named_parameters()}
    layers = text_layers(model)
    assert {layer.is_joint for layer in layers} == {joint}
    assert before == {key: (tensor.data_ptr(), tensor.device) for key, tensor in model.named_parameters()}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_of_a_branch_are_none_of_the_text() -> None:
    assert [layer.name for layer in text_layers(blueprint("SiamLayout-SD3"))] == [
        layer.name for layer in text_layers(blueprint("SD3-medium"))
    ]


def test_a_layer_is_named_by_module_or_number_and_a_typo_tells_the_nearest() -> None:
    layers = text_layers(build_backbone("SD3-tiny", 0))
    assert layers_named(layers, ["1", "transformer_blocks.0.attn"]) == (layers[1], layers[0])
    with pytest.raises(
        FoundryError, match=r"'transformer_blocks.0.atn' is not in this model.*transformer_blocks.0.attn"
    ):
        layers_named(layers, ["transformer_blocks.0.atn"])
    with pytest.raises(FoundryError, match="has 2, numbered from 0"):
        layers_named(layers, ["2"])


def test_fused_projections_and_models_without_text_are_refused() -> None:
    fused: Any = build_backbone("SD3-tiny", 0)
    fused.fuse_qkv_projections()
    with pytest.raises(FoundryError, match="fused projections"):
        text_layers(fused)
    from diffusers import UNet2DConditionModel

    blind = UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
        norm_num_groups=8,
    )
    with pytest.raises(FoundryError, match="no attention that sees text"):
        text_layers(blind)
