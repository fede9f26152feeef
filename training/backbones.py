"""Named backbones: a registry from names to builders of diffusers classes, so that stock pipelines load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from training.errors import FoundryError
from training.validation import nearest

LATENT_CHANNELS = 16
LATENT_SIZE = 8  # latent height and width at 64 px
TEXT_DIM = 384  # MiniLM token states


def pixart(width: int, depth: int, heads: int) -> PixArtTransformer2DModel:
    """A PixArt transformer for 16x8x8 latents at patch 2 (16 tokens) and 384-d text states with a mask."""
    return PixArtTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        num_layers=depth,
        cross_attention_dim=width,
        caption_channels=TEXT_DIM,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        sample_size=LATENT_SIZE,
        patch_size=2,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )


def unet(widths: tuple[int, int], depth: int, text_width: int) -> UNet2DConditionModel:
    """A two-level UNet for 16x8x8 latents with cross-attention at both levels.

    Stable Diffusion's pipeline passes no text mask, so texts are padded with zeros to a fixed length; states are
    projected from 384 to ``text_width`` inside the model.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        transformer_layers_per_block=depth,
        attention_head_dim=tuple(max(width // 32, 1) for width in widths),  # number of heads
        use_linear_projection=True,
        norm_num_groups=8,
        cross_attention_dim=text_width,
        encoder_hid_dim=TEXT_DIM,
        encoder_hid_dim_type="text_proj",
    )


Backbone = Any  # PixArtTransformer2DModel or UNet2DConditionModel; diffusers is not typed

BACKBONES: Mapping[str, Callable[[], Backbone]] = {
    "PixArt-tiny": partial(pixart, width=32, depth=1, heads=2),
    "UNet-tiny": partial(unet, widths=(8, 16), depth=1, text_width=16),
    "PixArt-demo-h48-d2": partial(pixart, width=48, depth=2, heads=2),
    "PixArt-demo-h64-d4": partial(pixart, width=64, depth=4, heads=2),
    "PixArt-demo-h96-d5": partial(pixart, width=96, depth=5, heads=3),
    "PixArt-demo-h128-d6": partial(pixart, width=128, depth=6, heads=4),
    "PixArt-demo-h160-d7": partial(pixart, width=160, depth=7, heads=5),
    "UNet-demo-c16": partial(unet, widths=(16, 32), depth=1, text_width=32),
    "UNet-demo-c32": partial(unet, widths=(32, 64), depth=1, text_width=64),
    "UNet-demo-c64": partial(unet, widths=(64, 96), depth=1, text_width=64),
}


def build_backbone(name: str, seed: int | None = None) -> Backbone:
    """Build a backbone by its registry name; ``seed`` fixes the initial weights, torch's own state is kept.

    Raises FoundryError for an unknown name, with the nearest known one.
    """
    if name not in BACKBONES:
        raise FoundryError(
            f"'backbone' is '{name}', which is not registered; {nearest(name, list(BACKBONES))}"
        )
    if seed is None:
        return BACKBONES[name]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BACKBONES[name]()


def count_parameters(name: str) -> int:
    """Parameters of a registered backbone, without allocating them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_backbone(name).parameters())


def macs_per_image(name: str, num_tokens: int = 32) -> int:
    """Multiply-adds of one forward pass of one image, linears and convolutions only (QK^T and AV left out).

    The convention of "On the Scalability of Diffusion-based Text-to-Image Generation", Table 1. ``num_tokens`` is
    the length of the text. Training costs about three times as much, 2 FLOPs per multiply-add.
    """
    model = build_backbone(name)
    counted = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        if isinstance(module, nn.Linear):
            counted += output.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            taps = module.kernel_size[0] * module.kernel_size[1]
            counted += output.numel() * taps * module.in_channels // module.groups

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    with torch.no_grad():
        latents = torch.zeros(1, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
        denoise(
            model, latents, torch.zeros(1), torch.zeros(1, num_tokens, TEXT_DIM), torch.ones(1, num_tokens)
        )
    for hook in hooks:
        hook.remove()
    return counted


def takes_mask(model: Backbone) -> bool:
    """Whether the stock pipeline of this class passes a text mask (PixArt does, Stable Diffusion's UNet not)."""
    return isinstance(model, PixArtTransformer2DModel)


def denoise(model: nn.Module, noisy: Tensor, timestep: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """One forward pass as the stock pipeline makes it: ``timestep`` in [0, 1000), mask only where it is passed."""
    extra = {"encoder_attention_mask": mask} if isinstance(model, PixArtTransformer2DModel) else {}
    return model(noisy, timestep=timestep, encoder_hidden_states=states, return_dict=False, **extra)[0]
