"""An AutoencoderKL whose encoder is exactly linear: patches of pixels on their principal components.

Latents that are linear in the pixels have no noise of training in them, and their components come ordered by what they
carry; only the decoder has to be learned. The encoder stays a stock one, so that every pipeline takes it: residual
blocks are the identity where their second convolution is zero, a convolution of stride 2 sorts the four pixels of a
square into channels, and ``silu(x) - silu(-x) = x`` passes values through the nonlinearity at its end. Its last norm
divides by the spread of a picture, which two constant channels make the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from training.errors import FoundryError

_CONSTANT = 1024.0  # of the two channels that outweigh all others in the last norm: a relative error of 1e-5
_COLORS = 3


@dataclass(frozen=True)
class LinearMap:
    """``latent = weight @ patch + bias``, patches as :func:`torch.nn.functional.pixel_unshuffle` orders them."""

    weight: Float[Tensor, "channels values"]
    bias: Float[Tensor, " channels"]

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n channels latent_h latent_w"]:
        """Latents of pictures in [-1, 1]: what an encoder that holds this map says."""
        side = round((self.weight.shape[1] / _COLORS) ** 0.5)
        patches = functional.pixel_unshuffle(images, side)
        return torch.einsum("cv,nvhw->nchw", self.weight, patches) + self.bias[:, None, None]


def principal_components(
    images: Float[Tensor, "n 3 h w"], side_px: int, num_channels: int, smallest_spread: float
) -> LinearMap:
    """Patches of ``side_px`` pixels a side on their first components, centred and each scaled to unit spread.

    A component of less than ``smallest_spread`` of the first one's spread is scaled as if it had that much, so that
    faint details are not blown up to the size of shapes. Signs are fixed: the largest entry of a component is positive.
    """
    patches = functional.pixel_unshuffle(images.double(), side_px).permute(0, 2, 3, 1).flatten(0, 2)
    mean = patches.mean(0)
    covariance = (patches - mean).T @ (patches - mean) / len(patches)
    variances, vectors = torch.linalg.eigh(covariance)  # ascending
    variances, vectors = variances.flip(0)[:num_channels], vectors.flip(1)[:, :num_channels]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * largest.sign()
    spread = variances.clamp(min=0).sqrt()
    spread = spread.clamp(min=float(spread[0]) * smallest_spread).clamp(min=1e-6)
    weight = (vectors / spread).T
    return LinearMap(weight.float(), (-weight @ mean).float())


def check_widths(block_channels: tuple[int, ...], latent_channels: int) -> None:
    """Raise FoundryError where an encoder of these widths cannot hold a linear map."""
    *outer, last = block_channels
    needed = [_COLORS * 4 ** (level + 1) for level in range(len(outer))]
    for level, (width, least) in enumerate(zip(outer, needed, strict=True)):
        if width < least:
            raise FoundryError(
                f"block_channels[{level}] is {width}; a linear encoder sorts pixels into channels and needs at least "
                f"{', '.join(map(str, needed))} in the blocks before the last. Widen it, or learn the encoder"
            )
    if last < 2 * latent_channels + 2:
        raise FoundryError(
            f"block_channels[{len(outer)}] is {last}; a linear encoder of {latent_channels} latent channels needs at least "
            f"{2 * latent_channels + 2} in the last block. Widen it, or take fewer latent channels"
        )
    most = _COLORS * 4 ** len(outer)
    if latent_channels > most:
        raise FoundryError(
            f"latent_channels is {latent_channels}; a patch has {most} values. Take as many at most"
        )


@torch.no_grad()
def set_linear_encoder(autoencoder: Any, linear: LinearMap, noise: float) -> None:
    """Write a linear map into a stock encoder, in place, and freeze it with the convolutions beside the latent.

    ``noise``: standard deviation of the posterior, which the decoder meets while it is trained. Raises FoundryError for
    an encoder too narrow to hold the map.
    """
    channels = len(linear.bias)
    check_widths(tuple(autoencoder.config.block_out_channels), channels)
    encoder = autoencoder.encoder
    for parameter in encoder.parameters():
        parameter.zero_()
    blocks = list(encoder.down_blocks)
    for color in range(_COLORS):
        encoder.conv_in.weight[color, color, 1, 1] = 1
    for level, (before, after) in enumerate(pairwise(blocks)):
        width = _COLORS * 4**level
        _sort_pixels(before.downsamplers[0].conv.weight, width)
        if after is not blocks[-1]:
            _pass_on(after.resnets[0], 4 * width)
    _enter(blocks[-1].resnets[0], linear, len(blocks) - 1)
    _leave(encoder, channels)
    _between(autoencoder, channels, noise)
    for part in (encoder, autoencoder.quant_conv, autoencoder.post_quant_conv):
        part.requires_grad_(False)


def _sort_pixels(weight: Float[Tensor, "o i 3 3"], width: int) -> None:
    """Stride 2: the four pixels of a square become four channels in a row. Stock encoders pad right and below alone."""
    for channel in range(width):
        for row in range(2):
            for column in range(2):
                weight[4 * channel + 2 * row + column, channel, row, column] = 1


def _pass_on(resnet: Any, width: int) -> None:
    """The first channels unchanged where a residual block changes the width; else it is the identity already."""
    if resnet.conv_shortcut is not None:
        for channel in range(width):
            resnet.conv_shortcut.weight[channel, channel, 0, 0] = 1


def _enter(resnet: Any, linear: LinearMap, levels: int) -> None:
    """The map and its negative, and two constants, in the 1x1 convolution that opens the last block."""
    channels = len(linear.bias)
    sorted_weight = linear.weight[:, _order_of_pixels(levels)]
    values = sorted_weight.shape[1]
    if resnet.conv_shortcut is None:
        raise FoundryError(
            "block_channels: the last block must be of another width than the one before, or nothing there can hold the "
            "linear map. Make it wider or narrower"
        )
    shortcut = resnet.conv_shortcut
    for start, sign in ((0, 1.0), (channels, -1.0)):
        shortcut.weight[start : start + channels, :values, 0, 0] = sign * sorted_weight
        shortcut.bias[start : start + channels] = sign * linear.bias
    shortcut.bias[2 * channels], shortcut.bias[2 * channels + 1] = _CONSTANT, -_CONSTANT


def _order_of_pixels(levels: int) -> Int[Tensor, " values"]:
    """For each channel of the sorted pixels, its place in :func:`torch.nn.functional.pixel_unshuffle`."""
    side = 2**levels
    numbers = torch.arange(_COLORS * side * side, dtype=torch.float32).reshape(1, -1, 1, 1)
    pixels = functional.pixel_shuffle(numbers, side)
    for _ in range(levels):
        pixels = functional.pixel_unshuffle(pixels, 2)
    return pixels.flatten().long()


def _leave(encoder: Any, channels: int) -> None:
    """Undo the last norm, whose spread the constants make, and the nonlinearity."""
    norm = encoder.conv_norm_out
    norm.weight.fill_(_CONSTANT * (2 / norm.num_channels) ** 0.5)
    for channel in range(channels):
        encoder.conv_out.weight[channel, channel, 1, 1] = 1
        encoder.conv_out.weight[channel, channels + channel, 1, 1] = -1


def _between(autoencoder: Any, channels: int, noise: float) -> None:
    for part in (autoencoder.quant_conv, autoencoder.post_quant_conv):
        part.weight.zero_()
        part.bias.zero_()
        for channel in range(channels):
            part.weight[channel, channel, 0, 0] = 1
    autoencoder.quant_conv.bias[channels:] = 2 * torch.log(torch.tensor(noise))
