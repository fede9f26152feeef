"""Layouts of the transformers: from width h, depth d and heads to a configuration.

Papers: "On the Scalability of Diffusion-based Text-to-Image Generation" (arXiv 2404.02883, Table 2); SD3-medium and
FLUX.1 as their configurations are published. This module is light: it imports no torch.
"""

from __future__ import annotations

from typing import Any

from training.backbones._variant import HEAD_WIDTH, LATENT_CHANNELS, LATENT_SIZE, TEXT_DIM, Variant


def pixart(width: int, depth: int, caption_channels: int | None = 1024) -> Variant:
    """PixArt-alpha's layout at patch 2 with 16 heads for 4x32x32 latents; outputs 4 to 7 are the variance (Table 2).

    ``caption_channels``: width of the text states, None where they enter as they are (width 1024).
    """
    return Variant(
        "PixArt", "PixArtTransformer2DModel", _pixart_config(width, depth, 16, caption_channels, 32, 4, 8)
    )


def small_pixart(
    width: int, depth: int, heads: int, latent_size: int = LATENT_SIZE, patch_size: int = 2
) -> Variant:
    """A PixArt transformer for 16-channel latents and 384-d text states with a mask."""
    channels = LATENT_CHANNELS
    config = _pixart_config(width, depth, heads, TEXT_DIM, latent_size, channels, channels)
    return Variant("PixArt", "PixArtTransformer2DModel", {**config, "patch_size": patch_size})


def _pixart_config(
    width: int, depth: int, heads: int, captions: int | None, size: int, channels: int, out_channels: int
) -> dict[str, Any]:
    return {
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "num_layers": depth,
        "cross_attention_dim": width,
        "caption_channels": captions,
        "in_channels": channels,
        "out_channels": out_channels,
        "sample_size": size,
        "patch_size": 2,
        "norm_type": "ada_norm_single",
        "use_additional_conditions": False,
    }


def sd3(depth: int = 24, heads: int = 24) -> Variant:
    """Stable Diffusion 3's joint transformer (MMDiT) at patch 2; heads are 64 wide. 24 and 24 are SD3-medium."""
    config = _sd3_config(depth, heads, sample_size=128, text_dim=4096, pooled_dim=2048, positions=192)
    return Variant("SD3", "SD3Transformer2DModel", config)


def small_sd3(
    depth: int, heads: int, latent_size: int = LATENT_SIZE, head_width: int = HEAD_WIDTH, **changes: Any
) -> Variant:
    """SD3's layout for 16-channel latents, 384-d text states and 384-d pooled text."""
    config = _sd3_config(
        depth, heads, latent_size, text_dim=TEXT_DIM, pooled_dim=TEXT_DIM, positions=64, head_width=head_width
    )
    return Variant("SD3", "SD3Transformer2DModel", {**config, **changes})


def writer(depth: int, heads: int, head_width: int = 32) -> Variant:
    """SD3's layout for texts as bytes (:data:`training.recipes.text_encoder.BYTE_WIDTHS`), which it spells from."""
    return small_sd3(
        depth,
        heads,
        head_width=head_width,
        joint_attention_dim=128,
        pooled_projection_dim=16,
        pos_embed_max_size=LATENT_SIZE // 2,
        qk_norm="rms_norm",
    )


def _sd3_config(
    depth: int,
    heads: int,
    sample_size: int,
    text_dim: int,
    pooled_dim: int,
    positions: int,
    head_width: int = HEAD_WIDTH,
) -> dict[str, Any]:
    return {
        "sample_size": sample_size,
        "patch_size": 2,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "num_layers": depth,
        "num_attention_heads": heads,
        "attention_head_dim": head_width,
        "joint_attention_dim": text_dim,
        "caption_projection_dim": heads * head_width,
        "pooled_projection_dim": pooled_dim,
        "pos_embed_max_size": positions,
    }


def flux(*, guidance: bool) -> Variant:
    """FLUX.1: 19 double and 38 single blocks of width 3072; ``guidance`` is embedded in dev, not in schnell."""
    config = {
        "in_channels": 64,  # 16 latent channels in 2x2 patches
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": guidance,
        "axes_dims_rope": (16, 56, 56),
    }
    return Variant("FLUX", "FluxTransformer2DModel", config)


def small_flux(depth: int, singles: int, heads: int, head_width: int = 32) -> Variant:
    """FLUX's layout for 16-channel latents, 384-d text states and 384-d pooled text, with guidance embedded.

    ``head_width``: a multiple of 32, so that its rotary shares stay even.
    """
    changes = {
        "num_layers": depth,
        "num_single_layers": singles,
        "attention_head_dim": head_width,
        "num_attention_heads": heads,
        "joint_attention_dim": TEXT_DIM,
        "pooled_projection_dim": TEXT_DIM,
        "axes_dims_rope": (head_width // 8, 7 * head_width // 16, 7 * head_width // 16),
    }
    return Variant("FLUX", "FluxTransformer2DModel", {**flux(guidance=True).config, **changes})


def with_layout(base: Variant, **options: Any) -> Variant:
    """A backbone of SD3's, FLUX's or a UNet's layout with a branch that is told where things stand (CreatiLayout, GLIGEN).

    ``options``: those of :class:`training.recipes.layout.LayoutOptions`.
    """
    name = f"Layout{base.class_name}"
    return Variant(base.family, name, {**base.config, "layout": options})
