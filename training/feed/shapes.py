"""Which latent sizes a backbone class takes beside the one that it was built for."""

from __future__ import annotations

from typing import Any

from diffusers import FluxTransformer2DModel

from training.backbones import bare, latent_shape
from training.errors import FoundryError


def check_latent_sizes(module: Any, shapes: tuple[tuple[int, int, int], ...], where: str) -> None:
    """Refuse latents that a backbone cannot take, before anything is trained.

    Its own size always fits. Other sizes: a UNet halves them once a level and needs whole numbers; a PixArt
    transformer interpolates its sine positions; SD3 crops positions up to a largest size; FLUX.1's rotate with the
    place. Raises FoundryError naming the first shape that does not fit.
    """
    if isinstance(bare(module), FluxTransformer2DModel):
        return
    own = latent_shape(module)
    for channels, height, width in shapes:
        if (channels, height, width) == own:
            continue
        unit, most = _unit_and_most(module)
        if height % unit or width % unit or max(height, width) > most:
            limit = f" and at most {most}" if most < 2**30 else ""
            raise FoundryError(
                f"{where}: latents of {height} x {width}; {type(module).__name__} takes sides that are multiples of "
                f"{unit}{limit} beside its own {own[1]}. Choose other buckets, or another backbone."
            )


def _unit_and_most(module: Any) -> tuple[int, int]:
    """What a side must be a multiple of, and the longest side. Raises FoundryError for a class of one size."""
    config, kind = module.config, type(module).__name__
    if kind == "UNet2DConditionModel":
        return 2 ** (len(config.block_out_channels) - 1), 2**30
    if kind == "PixArtTransformer2DModel":
        return config.patch_size, 2**30
    if kind == "SD3Transformer2DModel":
        return config.patch_size, config.patch_size * config.pos_embed_max_size
    raise FoundryError(
        f"backbone class {kind} is known with latents of one size only ({config.sample_size}); give a dataset of "
        "that size, without stages and buckets"
    )
