"""One forward pass of any backbone class as its stock pipeline makes it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from training.backbones.families import Family, bare, family_of, find_family
from training.conditioning import Condition
from training.errors import FoundryError

FLUX_TIMESTEPS = 1000.0


def model_parameters(model: nn.Module) -> int:
    """Parameters of a model as it is exported: adapters are fused by then and count nothing."""
    return sum(p.numel() for name, p in bare(model).named_parameters() if ".lora_" not in name)


def text_dim(config: Any) -> int:
    """Width of the token states that a model of this configuration takes."""
    names = ("caption_channels", "encoder_hid_dim", "joint_attention_dim", "cross_attention_dim")
    return next(value for value in (getattr(config, name, None) for name in names) if value)


def latent_channels(model: nn.Module) -> int:
    """Channels of the latents that a model denoises."""
    inner: Any = bare(model)
    return int(inner.config.in_channels) // family_of(inner).packed - control_channels(inner)


def control_channels(model: nn.Module) -> int:
    """Channels of the control latents that a model reads beside the noisy ones; 0 for most.

    What goes in beyond what comes out, as in FLUX.1's control models (128 in, 64 out, both 2x2 packed).
    """
    inner: Any = bare(model)
    taken, given = inner.config.in_channels, inner.config.out_channels
    return max(0, taken - (given or taken)) // family_of(inner).packed


def own_size(model: nn.Module) -> tuple[int, int] | None:
    """Latent height and width that a model is configured for; None for FLUX, which names none."""
    inner: Any = bare(model)
    size = inner.config.sample_size if family_of(inner).nominal_size is None else None
    return None if size is None else (size, size)


def size_from_data(model: nn.Module, shape: tuple[int, int, int] | None) -> tuple[int, int] | None:
    """Latent height and width to sample in, where they are the data's; None for the model's own size.

    The data's where the model names no size, and where it names a square whose part they are: configurations cannot say
    8 x 16, so that a model of wide pictures says 16.
    """
    own = own_size(model)
    return shape[1:] if shape is not None and (own is None or is_part_of(shape, own)) else None


def is_part_of(shape: tuple[int, int, int], own: tuple[int, int]) -> bool:
    """Whether latents are as long as a model's own square and narrower on the other side."""
    return max(shape[1:]) == own[0] == own[1] and min(shape[1:]) < own[0]


def latent_shape(model: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width that costs are counted with: a model's own, or its family's nominal size.

    What is sampled takes its size from :func:`own_size` or from the data.
    """
    side = family_of(model).nominal_size
    height, width = own_size(model) or (side or 0, side or 0)
    return latent_channels(model), height, width


def denoise(
    model: nn.Module, noisy: Float[Tensor, "b c h w"], timestep: Shaped[Tensor, " b"], condition: Condition
) -> Float[Tensor, "b c h w"]:
    """One forward pass as the stock pipeline makes it: ``timestep`` in [0, 1000), mask only where it is passed.

    FLUX gets its 2x2 packed latents, position ids and timestep / 1000 here, and its answer is unpacked. Channels
    beyond the latent's (PixArt's learned variance) are left out. Of the text a family takes what it knows; what else
    a condition holds is never passed over. Raises FoundryError when pooled text or control latents are missing, and
    naming what the family cannot take.
    """
    inner: Any = bare(model)
    row = find_family(inner)
    if row is None:  # a network that is called as the simplest UNet is
        return model(noisy, timestep=timestep, encoder_hidden_states=condition.states, return_dict=False)[0]
    given = _with_control(inner, row, noisy, condition)
    extra = row.keywords(inner.config, noisy, condition)
    if row.is_packed:
        return _denoise_packed(model, noisy, given, timestep, condition.states, extra)
    output: Tensor = model(
        given, timestep=timestep, encoder_hidden_states=condition.states, return_dict=False, **extra
    )[0]
    return output if output.shape[1] == noisy.shape[1] else output[:, : noisy.shape[1]]


def _with_control(inner: nn.Module, row: Family, noisy: Tensor, condition: Condition) -> Tensor:
    """Noisy latents with control latents behind them. Raises FoundryError for what the family cannot take."""
    for name in row.refused:
        is_taken = name == "layout" and getattr(inner, "layout_options", None) is not None
        if getattr(condition, name) is not None and not is_taken:
            raise FoundryError(
                f"'{name}' is given, which a {type(inner).__name__} of family {row.name} cannot take; leave it out"
            )
    wanted, control = control_channels(inner), condition.control
    found = 0 if control is None else control.shape[1]
    if found != wanted:
        raise FoundryError(
            f"'control' has {found} channels of latents, this {type(inner).__name__} takes {wanted or 'none'}; "
            "give a condition with as many"
        )
    return noisy if control is None else torch.cat([noisy, control], dim=1)


def _denoise_packed(
    model: nn.Module, noisy: Tensor, given: Tensor, timestep: Tensor, states: Tensor, extra: dict[str, Any]
) -> Tensor:
    height, width = noisy.shape[-2:]
    output = model(
        pack(given),
        timestep=timestep / FLUX_TIMESTEPS,
        encoder_hidden_states=states,
        img_ids=_image_ids(height // 2, width // 2, noisy),
        txt_ids=noisy.new_zeros(states.shape[1], 3),
        return_dict=False,
        **extra,
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
