"""A tiny model of every family with something to prune everywhere, its inputs, and masks by chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import Tensor

from tests.training import pretrained_pipelines
from training.backbones import denoise
from training.conditioning import Condition
from training.pruning._layers import UnitKey
from training.pruning.units import UnitGroup, unit_groups

CHANNELS, SIDE, TEXT, POOLED, TOKENS = 4, 8, 16, 24, 5


def sd2() -> UNet2DConditionModel:
    return pretrained_pipelines.unet()


def sdxl() -> UNet2DConditionModel:
    return pretrained_pipelines.sdxl_unet()


def pixart() -> PixArtTransformer2DModel:
    return pretrained_pipelines.pixart()


def sd3() -> SD3Transformer2DModel:
    """Three blocks: with normalised queries, with SD3.5's second attention, and the last without a text stream."""
    return pretrained_pipelines.sd3(
        num_layers=3,
        num_attention_heads=3,
        caption_projection_dim=24,
        dual_attention_layers=(1,),
        qk_norm="rms_norm",
    )


def flux() -> FluxTransformer2DModel:
    return pretrained_pipelines.flux(num_layers=2, num_single_layers=2, num_attention_heads=3)


FAMILIES = {"sd2": sd2, "sdxl": sdxl, "pixart": pixart, "sd3": sd3, "flux": flux}


def model_of(name: str) -> Any:
    """A model of a family, no weight and no bias of which is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        backbone = FAMILIES[name]()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone.eval()


def groups_of(backbone: Any) -> list[UnitGroup]:
    """Every unit: adaLN channels too where there are any."""
    is_flux = isinstance(backbone, FluxTransformer2DModel)
    return unit_groups(backbone, kinds_of(is_flux))


def kinds_of(is_flux: bool) -> tuple[Any, ...]:
    return ("heads", "ffn", "norm") if is_flux else ("heads", "ffn")


def answer(backbone: Any) -> Tensor:
    """One forward pass with fixed inputs."""
    random = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, CHANNELS, SIDE, SIDE, generator=random)
    states = torch.randn(2, TOKENS, TEXT, generator=random)
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, 3:] = False
    pooled = torch.randn(2, POOLED, generator=random)
    timestep = torch.tensor([999.0, 400.0])
    return denoise(backbone, noisy, timestep, Condition(states, mask, pooled))


def random_masks(groups: list[UnitGroup], seed: int = 0) -> dict[UnitKey, Tensor]:
    """A number in [0, 1) for each unit."""
    random = torch.Generator().manual_seed(seed)
    return {group.key: torch.rand(group.num_units, generator=random) for group in groups}


def random_keep(groups: list[UnitGroup], share: float = 0.6, seed: int = 0) -> dict[UnitKey, Tensor]:
    """About ``share`` of each module's units, at least one of two or more."""
    return {key: _some(mask < share) for key, mask in random_masks(groups, seed).items()}


def _some(keep: Tensor) -> Tensor:
    keep[0] |= not keep.any()
    return keep


def as_masks(keep: Mapping[UnitKey, Tensor]) -> Any:
    """Constant masks of 0 and 1."""
    floats = {key: value.float() for key, value in keep.items()}
    return floats.__getitem__
