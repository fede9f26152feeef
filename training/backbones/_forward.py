"""One forward pass of any backbone class as its stock pipeline makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.backbones._variant import GPU_LATENT_SIZE
from training.conditioning import Condition
from training.errors import FoundryError

PIXELS_PER_LATENT = 8  # of every autoencoder that these pipelines use
FLUX_TIMESTEPS = 1000.0


def bare(model: nn.Module) -> nn.Module:
    """The diffusers model inside wrappers of torch.compile and DistributedDataParallel."""
    inner: Any = model
    while isinstance(inner, DistributedDataParallel) or hasattr(inner, "_orig_mod"):
        inner = inner.module if isinstance(inner, DistributedDataParallel) else inner._orig_mod
    return inner


def model_parameters(model: nn.Module) -> int:
    """Parameters of a model as it is exported: adapters are fused by then and count nothing."""
    return sum(p.numel() for name, p in bare(model).named_parameters() if ".lora_" not in name)


def takes_mask(model: nn.Module) -> bool:
    """Whether the stock pipeline of this class passes a text mask (PixArt does, the others do not)."""
    return isinstance(bare(model), PixArtTransformer2DModel)


def text_dim(config: Any) -> int:
    """Width of the token states that a model of this configuration takes."""
    names = ("caption_channels", "encoder_hid_dim", "joint_attention_dim", "cross_attention_dim")
    return next(value for value in (getattr(config, name, None) for name in names) if value)


def pooled_dim(config: Any) -> int | None:
    """Width of the pooled text that a model of this configuration takes, None where it takes none."""
    if getattr(config, "addition_embed_type", None) == "text_time":
        return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)
    return getattr(config, "pooled_projection_dim", None)


def latent_shape(model: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of the latents a model is configured for; FLUX names no size, 32 stands for it."""
    inner = bare(model)
    config: Any = inner.config
    if isinstance(inner, FluxTransformer2DModel):
        return config.in_channels // 4 - control_channels(inner), GPU_LATENT_SIZE, GPU_LATENT_SIZE
    return config.in_channels - control_channels(inner), config.sample_size, config.sample_size


def denoise(
    model: nn.Module, noisy: Float[Tensor, "b c h w"], timestep: Shaped[Tensor, " b"], condition: Condition
) -> Float[Tensor, "b c h w"]:
    """One forward pass as the stock pipeline makes it: ``timestep`` in [0, 1000), mask only where it is passed.

    FLUX gets its 2x2 packed latents, position ids and timestep / 1000 here, and its answer is unpacked. Channels
    beyond the latent's (PixArt's learned variance) are left out. Of the text a family takes what it knows; what else
    a condition holds is never passed over. Raises FoundryError when pooled text or control latents are missing, and
    naming what the family cannot take.
    """
    inner = bare(model)
    given = _with_control(inner, noisy, condition)
    if isinstance(inner, FluxTransformer2DModel):
        return _denoise_flux(model, inner.config, noisy, given, timestep, condition)
    extra = _keywords(inner)(inner.config, noisy, condition)
    output = model(
        given, timestep=timestep, encoder_hidden_states=condition.states, return_dict=False, **extra
    )[0]
    return output if output.shape[1] == noisy.shape[1] else output[:, : noisy.shape[1]]


def control_channels(model: nn.Module) -> int:
    """Channels of the control latents that a model reads beside the noisy ones; 0 for most.

    What goes in beyond what comes out, as in FLUX.1's control models (128 in, 64 out, both 2x2 packed).
    """
    inner = bare(model)
    config: Any = inner.config
    taken, given = getattr(config, "in_channels", 0), getattr(config, "out_channels", None)
    return max(0, taken - (given or taken)) // (4 if isinstance(inner, FluxTransformer2DModel) else 1)


def _with_control(inner: nn.Module, noisy: Tensor, condition: Condition) -> Tensor:
    """Noisy latents with control latents behind them. Raises FoundryError for what the family cannot take."""
    refused = ["layout", "attention_mask"]
    if condition.time_ids is not None and getattr(inner.config, "addition_embed_type", None) != "text_time":
        refused.append("time_ids")
    for name in refused:
        if getattr(condition, name) is not None:
            raise FoundryError(
                f"'{name}' is given, which a {type(inner).__name__} of this configuration cannot take; leave it out"
            )
    wanted, control = control_channels(inner), condition.control
    found = 0 if control is None else control.shape[1]
    if found != wanted:
        raise FoundryError(
            f"'control' has {found} channels of latents, this {type(inner).__name__} takes {wanted or 'none'}; "
            "give a condition with as many"
        )
    return noisy if control is None else torch.cat([noisy, control], dim=1)


Keywords = Callable[[Any, Tensor, Condition], dict[str, Any]]


def _keywords(model: nn.Module) -> Keywords:
    """What a class is passed beside latents, timestep and states."""
    if isinstance(model, PixArtTransformer2DModel):
        return _pixart_keywords
    if isinstance(model, SD3Transformer2DModel):
        return _sd3_keywords
    if isinstance(model, UNet2DConditionModel):
        return _unet_keywords
    return _no_keywords


def _pixart_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    extra: dict[str, Any] = {"encoder_attention_mask": condition.mask}
    if config.use_additional_conditions:
        height, width = (PIXELS_PER_LATENT * side for side in noisy.shape[-2:])
        size, ratio = noisy.new_tensor([height, width]), noisy.new_tensor([height / width])
        extra["added_cond_kwargs"] = {
            "resolution": size.repeat(len(noisy), 1),
            "aspect_ratio": ratio.repeat(len(noisy), 1),
        }
    return extra


def _sd3_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    return {"pooled_projections": _pooled(config, condition)}


def _unet_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    if config.addition_embed_type != "text_time":
        return {}
    time_ids = _sizes(noisy) if condition.time_ids is None else condition.time_ids
    return {"added_cond_kwargs": {"text_embeds": _pooled(config, condition), "time_ids": time_ids}}


def _no_keywords(config: Any, noisy: Tensor, condition: Condition) -> dict[str, Any]:
    return {}


def _sizes(noisy: Tensor) -> Float[Tensor, "b 6"]:
    """SDXL's size numbers of uncropped pictures."""
    height, width = (float(PIXELS_PER_LATENT * side) for side in noisy.shape[-2:])
    return noisy.new_tensor([height, width, 0.0, 0.0, height, width]).repeat(len(noisy), 1)


def _pooled(config: Any, condition: Condition) -> Tensor:
    if condition.pooled is None:
        raise FoundryError(
            f"'pooled' is missing; this backbone takes pooled text of width {pooled_dim(config)}; "
            "encode the texts with the encoders that it was trained with"
        )
    return condition.pooled


def _denoise_flux(
    model: nn.Module, config: Any, noisy: Tensor, given: Tensor, timestep: Tensor, condition: Condition
) -> Tensor:
    batch, _, height, width = noisy.shape
    guidance = noisy.new_full((batch,), condition.guidance) if config.guidance_embeds else None
    output = model(
        pack(given),
        timestep=timestep / FLUX_TIMESTEPS,
        encoder_hidden_states=condition.states,
        pooled_projections=_pooled(config, condition),
        guidance=guidance,
        img_ids=_image_ids(height // 2, width // 2, noisy),
        txt_ids=noisy.new_zeros(condition.states.shape[1], 3),
        return_dict=False,
    )[0]
    return unpack(output, height, width)


def pack(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b patches c4"]:
    """Latents as rows of 2x2 patches, channel before place in the patch. Height and width must be even."""
    batch, channels, height, width = latents.shape
    if height % 2 or width % 2:
        raise FoundryError(
            f"latents are {height} x {width}; 2x2 packing needs even sides; crop or pad by one"
        )
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, 4 * channels)


def unpack(patches: Float[Tensor, "b patches c4"], height: int, width: int) -> Float[Tensor, "b c h w"]:
    """The inverse of :func:`pack` for latents of ``height`` x ``width``."""
    batch, _, channels = patches.shape
    grid = patches.reshape(batch, height // 2, width // 2, channels // 4, 2, 2)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height, width)


def _image_ids(rows: int, columns: int, like: Tensor) -> Float[Tensor, "patches 3"]:
    """Place of each patch: (0, row, column)."""
    places = torch.cartesian_prod(
        torch.arange(rows, device=like.device), torch.arange(columns, device=like.device)
    )
    return torch.nn.functional.pad(places.to(like.dtype), (1, 0))
