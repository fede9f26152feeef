"""Every named backbone. Names are the papers' own; ``demo`` and ``gpu`` relatives are ours.

``C``: width of the outermost level; ``TD``: transformer layers at 2x and 4x (TDx is 2 and x); ``h``: width and
``d``: depth of a transformer. This module is light: it imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from training.backbones._transformers import (
    flux,
    pixart,
    sd3,
    small_flux,
    small_pixart,
    small_sd3,
    with_layout,
    writer,
)
from training.backbones._unets import (
    demo_unet,
    gpu_sd2,
    gpu_unet,
    if_xl,
    released_if_xl,
    released_sdxl,
    sd2,
    sdxl,
    small_if_xl,
    small_released_sdxl,
    small_unet,
    two_level_if_xl,
    unet_writer,
)
from training.backbones._variant import GPU_LATENT_SIZE, TINY_LATENT_SIZE, Variant

BACKBONES: Mapping[str, Variant] = {
    # Tables 1 and 2 of the scalability paper.
    "SD2": sd2(),
    "SD2-C512": sd2(512),
    "IF-XL-C512": if_xl(512),
    "IF-XL-C704": if_xl(704),
    "SDXL-C128": sdxl(128),
    "SDXL-C192": sdxl(192),
    "SDXL": sdxl(),
    "SDXL-C384": sdxl(384),
    "SDXL-TD2": sdxl(depth=(2, 2)),
    "SDXL-TD4": sdxl(depth=(2, 4)),
    "SDXL-TD12": sdxl(depth=(2, 12)),
    "SDXL-TD14": sdxl(depth=(2, 14)),
    "SDXL-TD4_4": sdxl(depth=(4, 4)),
    "SDXL-TD4_8": sdxl(depth=(4, 8)),
    "SDXL-TD4_12": sdxl(depth=(4, 12)),
    "SDXL-C384-TD4_12": sdxl(384, (4, 12)),
    "PixArt-XL-2": pixart(1152, 28, caption_channels=4096),
    "PixArt-h1152-d28": pixart(1152, 28),
    "PixArt-h1536-d28": pixart(1536, 28),
    "PixArt-h1024-d28": pixart(1024, 28, caption_channels=None),
    "PixArt-h1024-d56": pixart(1024, 56, caption_channels=None),
    # As released, with their real conditioning.
    "SDXL-stock": released_sdxl(),
    "KOALA-1B": released_sdxl(depth=6, layers=1),
    "KOALA-700M": released_sdxl(depth=5, layers=1, mid=False),
    "IF-I-XL": released_if_xl(),
    "SD3-medium": sd3(),
    "FLUX.1-dev": flux(guidance=True),
    "FLUX.1-schnell": flux(guidance=False),
    # SiamLayout as released (CreatiLayout): every block with a branch for up to ten placed entities.
    "SiamLayout-SD3": with_layout(sd3(), kind="siam"),
    "SiamLayout-SD3-LoRA": with_layout(sd3(), kind="siam_lora"),
    "SiamLayout-FLUX": with_layout(flux(guidance=True), kind="siam", phrase_dim=4096, tokens_per_entity=30),
    # Smallest of their kind, for tests: 16x8x8 latents.
    "PixArt-tiny": small_pixart(32, 1, heads=2, latent_size=TINY_LATENT_SIZE),
    "UNet-tiny": small_unet((8, 16), 1, text_width=16, latent_size=TINY_LATENT_SIZE),
    "SDXL-tiny": small_unet(
        (8, 16), (1, 3), text_width=16, attention=(False, True), layers=2, latent_size=TINY_LATENT_SIZE
    ),
    "SDXL-stock-tiny": small_released_sdxl((8, 16), (1, 2), text_width=16, latent_size=TINY_LATENT_SIZE),
    "SD3-tiny": small_sd3(2, heads=1, head_width=32, latent_size=TINY_LATENT_SIZE),
    "FLUX-tiny": small_flux(1, 1, heads=1),
    # 16x16x16 latents: as small, for the smoke profile.
    "PixArt-smoke": small_pixart(32, 1, heads=2, patch_size=4),
    "UNet-smoke": small_unet((8, 8, 16), 1, text_width=16, attention=(False, True, True)),
    "SDXL-stock-smoke": small_released_sdxl((8, 8, 16), (1, 1, 2), text_width=16),
    "SD3-smoke": small_sd3(2, heads=1, head_width=32),
    "FLUX-smoke": small_flux(1, 1, heads=1),
    # 16x16x16 latents, 0.1 to 3 million parameters; 16 tokens where a transformer cuts patches of 4.
    "PixArt-demo-h48-d2": small_pixart(48, 2, heads=2, patch_size=4),
    "PixArt-demo-h64-d4": small_pixart(64, 4, heads=2, patch_size=4),
    "PixArt-demo-h96-d5": small_pixart(96, 5, heads=3, patch_size=4),
    "PixArt-demo-h128-d6": small_pixart(128, 6, heads=4, patch_size=4),
    "PixArt-demo-h160-d7": small_pixart(160, 7, heads=5, patch_size=4),
    "UNet-demo-c16": demo_unet((16, 32), 1, text_width=32),
    "UNet-demo-c32": demo_unet((32, 64), 1, text_width=64),
    "UNet-demo-c64": demo_unet((64, 96), 1, text_width=64),
    "PixArt-demo-h32-d6": small_pixart(32, 6, heads=2, patch_size=4),
    "UNet-demo-w32-outer": demo_unet((32, 32), 1, text_width=32, attention=(True, False)),
    "UNet-demo-w32-inner": demo_unet((32, 32), 1, text_width=32, attention=(False, True)),
    "PixArt-demo-h96-d12": small_pixart(96, 12, heads=3, patch_size=4),
    "PixArt-demo-h144-d5": small_pixart(144, 5, heads=4, patch_size=4),
    "UNet-demo-c32-td1_5": demo_unet((32, 64), (1, 5), text_width=64),
    "UNet-demo-c48": demo_unet((48, 96), 1, text_width=64),
    "UNet-demo-w64-outer": demo_unet((64, 64), 2, text_width=64, attention=(True, False)),
    "UNet-demo-w64-inner": demo_unet((64, 64), 2, text_width=64, attention=(False, True)),
    "UNet-demo-c48-l2": demo_unet((48, 64), (1, 3), text_width=64, layers=2),
    "SDXL-stock-demo-c32": small_released_sdxl((16, 32, 64), (1, 1, 2), text_width=64, layers=2),
    "IF-XL-demo-c32": two_level_if_xl(32),
    "SD3-demo-h128-d4": small_sd3(4, heads=2),
    "FLUX-demo-h64-d2-s4": small_flux(2, 4, heads=2),
    # 16x16x16 latents, 4.6 to 5.7 million parameters: the models that ship.
    "UNet-teacher": small_unet((48, 96), (1, 3), text_width=128, attention=(False, True), layers=2),
    "PixArt-teacher": small_pixart(192, 7, heads=6),
    "SD3-teacher": small_sd3(6, heads=5, head_width=32),
    "SD3-writer": writer(6, heads=4),
    "UNet-writer": unet_writer((64, 96), (1, 2)),
    # 16x32x32 latents, 9 to 452 million parameters.
    "UNet-gpu-c32": gpu_unet(32),
    "UNet-gpu-c64": gpu_unet(64),
    "UNet-gpu-c96": gpu_unet(96),
    "UNet-gpu-c128": gpu_unet(128),
    "UNet-gpu-c160": gpu_unet(160),
    "UNet-gpu-c192": gpu_unet(192),
    "UNet-gpu-c64-td2_7": gpu_unet(64, (2, 7)),
    "UNet-gpu-c96-td1_2": gpu_unet(96, (1, 2)),
    "UNet-gpu-c96-td11_2": gpu_unet(96, (11, 2)),
    "PixArt-gpu-h256-d8": small_pixart(256, 8, heads=4, latent_size=GPU_LATENT_SIZE),
    "PixArt-gpu-h384-d12": small_pixart(384, 12, heads=6, latent_size=GPU_LATENT_SIZE),
    "PixArt-gpu-h512-d14": small_pixart(512, 14, heads=8, latent_size=GPU_LATENT_SIZE),
    "PixArt-gpu-h640-d18": small_pixart(640, 18, heads=10, latent_size=GPU_LATENT_SIZE),
    "PixArt-gpu-h768-d22": small_pixart(768, 22, heads=12, latent_size=GPU_LATENT_SIZE),
    "PixArt-gpu-h896-d26": small_pixart(896, 26, heads=14, latent_size=GPU_LATENT_SIZE),
    "PixArt-gpu-h512-d28": small_pixart(512, 28, heads=8, latent_size=GPU_LATENT_SIZE),
    "PixArt-gpu-h720-d14": small_pixart(720, 14, heads=12, latent_size=GPU_LATENT_SIZE),
    "SD2-gpu-c96": gpu_sd2(96),
    "IF-XL-gpu-c64": small_if_xl(64, GPU_LATENT_SIZE, layers=2),
    "SD3-gpu-h512-d12": small_sd3(12, heads=8, latent_size=GPU_LATENT_SIZE),
    "FLUX-gpu-h512-d4-s8": small_flux(4, 8, heads=8, head_width=64),
}

MATCHED_PAIRS: Mapping[str, tuple[str, str]] = {
    "depth_over_width.unet.demo": ("UNet-demo-c32-td1_5", "UNet-demo-c48"),
    "depth_over_width.transformer.demo": ("PixArt-demo-h96-d12", "PixArt-demo-h144-d5"),
    "depth_over_width.unet.gpu": ("UNet-gpu-c64-td2_7", "UNet-gpu-c96-td1_2"),
    "depth_over_width.transformer.gpu": ("PixArt-gpu-h512-d28", "PixArt-gpu-h720-d14"),
    "depth_over_width.transformer.grid": ("PixArt-demo-h32-d6", "PixArt-demo-h48-d2"),
    "attention_placement.grid": ("UNet-demo-w32-inner", "UNet-demo-w32-outer"),
    "attention_placement.demo": ("UNet-demo-w64-inner", "UNet-demo-w64-outer"),
    "attention_placement.gpu": ("UNet-gpu-c96", "UNet-gpu-c96-td11_2"),
}
"""Pairs within 3% of each other's parameters for the paper's two findings; it predicts that the first does better.

Depth against width, and cross-attention at the coarse levels against the fine ones.
"""
