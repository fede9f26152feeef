"""Layouts of UNet2DConditionModel: from widths and transformer depth (TD) a level to a configuration.

Papers: "On the Scalability of Diffusion-based Text-to-Image Generation" (arXiv 2404.02883, Table 1) and KOALA
(arXiv 2312.04005, Table 1). This module is light: it imports no torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from training.backbones._variant import (
    GPU_LATENT_SIZE,
    HEAD_WIDTH,
    LATENT_CHANNELS,
    LATENT_SIZE,
    STOCK_SDXL,
    TEXT_DIM,
    Variant,
)

_OPEN_CLIP_H = {"sample_size": 32, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 1024}
_DEMO = {"sample_size": LATENT_SIZE, "in_channels": LATENT_CHANNELS, "out_channels": LATENT_CHANNELS}
_GPU = {**_DEMO, "sample_size": GPU_LATENT_SIZE}


def sdxl(width: int = 320, depth: tuple[int, int] = (2, 10)) -> Variant:
    """SDXL's layout: widths C x [1, 2, 4], two residual blocks a level, attention at 2x and 4x (Table 1).

    ``depth``: TD at 2x and 4x; the mid block takes the last. Text is OpenCLIP-H's, nothing else is told.
    """
    return Variant("SDXL", "UNet2DConditionModel", _sdxl_config(width, depth), "paper")


def _sdxl_config(width: int, depth: tuple[int, int]) -> dict[str, Any]:
    widths = (width, 2 * width, 4 * width)
    return {
        **_OPEN_CLIP_H,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, *depth),  # the first is unused
        "attention_head_dim": _heads(widths),
        "use_linear_projection": True,
    }


def released_sdxl(depth: int = 10, layers: int = 2, *, mid: bool = True) -> Variant:
    """SDXL-Base as released, and KOALA's cuts of it: one residual block a level, fewer layers at 4x, no mid."""
    changes = {
        "sample_size": 128,
        "layers_per_block": layers,
        "mid_block_type": "UNetMidBlock2DCrossAttn" if mid else None,
    }
    config = _sdxl_config(320, (2, depth))
    return Variant("SDXL", "UNet2DConditionModel", {**config, **STOCK_SDXL, **changes})


def sd2(width: int = 320) -> Variant:
    """Stable Diffusion 2's layout: widths C x [1, 2, 4, 4], attention at 1x, 2x, 4x and in the mid block."""
    widths = (width, 2 * width, 4 * width, 4 * width)
    config = {
        **_OPEN_CLIP_H,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "attention_head_dim": _heads(widths),
        "use_linear_projection": True,
    }
    return Variant("SD2", "UNet2DConditionModel", config)


def if_xl(width: int = 512, **changes: Any) -> Variant:
    """DeepFloyd IF-XL's layout: widths C x [1, 2, 3, 4], three residual blocks, attention without feed-forward.

    Pooled text is kept (``addition_embed_type``): without it the paper's parameters are not met.
    """
    config = {
        **_OPEN_CLIP_H,
        "block_out_channels": (width, 2 * width, 3 * width, 4 * width),
        "layers_per_block": 3,
        "down_block_types": (*("SimpleCrossAttnDownBlock2D",) * 3, "ResnetDownsampleBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("ResnetUpsampleBlock2D", *("SimpleCrossAttnUpBlock2D",) * 3),
        "attention_head_dim": HEAD_WIDTH,  # the width of a head in these blocks
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
        "cross_attention_norm": "group_norm",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 64,
        **changes,
    }
    return Variant("IF-XL", "UNet2DConditionModel", config)


def released_if_xl() -> Variant:
    """DeepFloyd's IF-I-XL as released: 64 x 64 pixels instead of latents, T5-XXL's states, attention inside alone."""
    return if_xl(
        704,
        sample_size=64,
        in_channels=3,
        out_channels=6,  # the variance beside the prediction
        cross_attention_dim=2816,
        encoder_hid_dim=4096,
        encoder_hid_dim_type="text_proj",
        down_block_types=("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
        up_block_types=(*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    )


def small_unet(
    widths: tuple[int, ...],
    depth: int | tuple[int, ...],
    text_width: int,
    attention: tuple[bool, ...] = (True, True),
    layers: int = 1,
    latent_size: int = LATENT_SIZE,
) -> Variant:
    """A UNet for 16-channel latents: a level for each of ``widths``, ``layers`` residual blocks each, attention where
    ``attention`` says.

    Stable Diffusion's pipeline passes no text mask, so texts are padded with zeros to a fixed length; states are
    projected from 384 to ``text_width`` inside the model. With attention inside alone it is SDXL's layout, else
    Stable Diffusion 2's.
    """
    config = {
        **_DEMO,
        "sample_size": latent_size,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": _block_types("Down", attention),
        "up_block_types": _block_types("Up", attention[::-1]),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "transformer_layers_per_block": depth,
        "attention_head_dim": tuple(max(width // 32, 1) for width in widths),  # number of heads
        "use_linear_projection": True,
        "norm_num_groups": 8,
        **_text_projection(text_width),
    }
    return Variant("SD2" if attention[0] else "SDXL", "UNet2DConditionModel", config)


def unet_writer(widths: tuple[int, int], depth: tuple[int, int]) -> Variant:
    """A UNet for texts as bytes (:data:`training.recipes.text_encoder.BYTE_WIDTHS`), with attention at the finest level too, for
    a letter is three latents wide."""
    made = small_unet(widths, depth, text_width=128)
    return replace(made, config={**made.config, "encoder_hid_dim": 128})


def demo_unet(
    widths: tuple[int, int],
    depth: int | tuple[int, int],
    text_width: int,
    attention: tuple[bool, bool] = (True, True),
    layers: int = 1,
) -> Variant:
    """SDXL's layout for the demo: an outermost level at half the width and without attention before the two of
    ``widths``, so that the latents' 16 x 16 places cost what 8 x 8 do."""
    outermost = widths[0] // 2
    depths = depth if isinstance(depth, int) else (1, *depth)  # the first is unused
    return small_unet((outermost, *widths), depths, text_width, (False, *attention), layers)


def small_released_sdxl(
    widths: tuple[int, ...],
    depth: tuple[int, ...],
    text_width: int,
    layers: int = 1,
    latent_size: int = LATENT_SIZE,
) -> Variant:
    """SDXL's layout for 16-channel latents with its real conditioning: 384-d pooled text and six size numbers beside
    the 384-d states. All levels but the first attend."""
    size_width = 8  # of the embedding of each size number
    told = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": size_width,
        "projection_class_embeddings_input_dim": TEXT_DIM + 6 * size_width,
    }
    attention = (False, *(True for _ in widths[1:]))
    layout = small_unet(widths, depth, text_width, attention, layers, latent_size)
    return Variant("SDXL", "UNet2DConditionModel", {**layout.config, **told})


def gpu_unet(width: int, depth: tuple[int, int] = (2, 4)) -> Variant:
    """SDXL's layout for 16x32x32 latents; 384-d text states are projected to 4 C inside the model."""
    config = {**_sdxl_config(width, depth), **_GPU, **_text_projection(4 * width)}
    return Variant("SDXL", "UNet2DConditionModel", config)


def gpu_sd2(width: int) -> Variant:
    """Stable Diffusion 2's layout for 16x32x32 latents; 384-d text states are projected to 4 C."""
    return Variant(
        "SD2", "UNet2DConditionModel", {**sd2(width).config, **_GPU, **_text_projection(4 * width)}
    )


def small_if_xl(width: int, latent_size: int, layers: int, **changes: Any) -> Variant:
    """IF-XL's layout for 16-channel latents and 384-d text states, heads 32 wide."""
    small = {
        **_DEMO,
        "sample_size": latent_size,
        "layers_per_block": layers,
        "attention_head_dim": 32,
        "addition_embed_type_num_heads": 8,
        **_text_projection(4 * width),
    }
    return if_xl(width, **(small | changes))


def two_level_if_xl(width: int) -> Variant:
    """IF-XL's blocks on two levels for 16x16x16 latents: attention at 1x and in the mid block."""
    return small_if_xl(
        width,
        LATENT_SIZE,
        1,
        block_out_channels=(width, 2 * width),
        down_block_types=("SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"),
        norm_num_groups=8,
    )


def _heads(widths: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(width // HEAD_WIDTH, 1) for width in widths)


def _text_projection(text_width: int) -> dict[str, Any]:
    return {
        "cross_attention_dim": text_width,
        "encoder_hid_dim": TEXT_DIM,
        "encoder_hid_dim_type": "text_proj",
    }


def _block_types(direction: str, attention: tuple[bool, ...]) -> tuple[str, ...]:
    return tuple(f"{'CrossAttn' if attends else ''}{direction}Block2D" for attends in attention)
