"""What a data feed takes: bytes on storage, and operations for text, in each of the three text modes. Pure numbers.

600 million images at 77 tokens of width 1024 in float16 are 94.6 TB of text states against 4.9 TB of latents (4 x 32 x
32): at that size text is encoded while training, and the price moves from storage to operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from training.errors import FoundryError
from training.options import CaptionMix

TextMode = Literal["stored", "stage", "step"]

BYTES_OF: Mapping[str, int] = MappingProxyType({"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1})
WORD_BYTES = 120  # of a caption, and 8 for where it starts; measure your own
INDEX_BYTES = 8  # an offset, a text number or a key


class EncoderShape(NamedTuple):
    """A text encoder's transformer: ``weights`` are those of one layer's linear maps."""

    layers: int
    width: int
    weights: int

    def flops(self, tokens: int) -> int:
        """Operations of one forward pass of one text: 2 a multiply-add, attention products included."""
        return self.layers * (2 * self.weights * tokens + 4 * tokens * tokens * self.width)


def _plain(layers: int, width: int) -> EncoderShape:
    """Four maps of attention and a feed-forward four times as wide: 12 width^2 weights a layer."""
    return EncoderShape(layers, width, 12 * width * width)


ENCODERS: Mapping[str, EncoderShape] = MappingProxyType(
    {
        "MiniLM": _plain(6, 384),
        "CLIP-L": _plain(12, 768),
        "OpenCLIP-H": _plain(24, 1024),
        "OpenCLIP-bigG": _plain(32, 1280),
        # gated feed-forward: three maps of 4096 x 10240 beside attention's four
        "T5-XXL": EncoderShape(24, 4096, 4 * 4096 * 4096 + 3 * 4096 * 10240),
    }
)


class FeedSize(NamedTuple):
    """Bytes on storage and operations for text of one dataset in one text mode.

    ``encode_flops_once`` are spent before training, ``encode_flops_per_image`` at each image seen.
    """

    latent_bytes: int
    text_bytes: int
    index_bytes: int
    encode_flops_once: int
    encode_flops_per_image: int

    @property
    def total_bytes(self) -> int:
        """All that lies on storage."""
        return self.latent_bytes + self.text_bytes + self.index_bytes

    def encode_flops(self, images_seen: int) -> int:
        """Operations for text of a whole training."""
        return self.encode_flops_once + images_seen * self.encode_flops_per_image


def latent_bytes(num_images: int, shape: Sequence[int], dtype: str = "fp16") -> int:
    """Bytes of the latents of so many images. Raises FoundryError for an unknown type."""
    size = num_images * _bytes_of(dtype)
    for side in shape:
        size *= side
    return size


def state_bytes(num_texts: int, tokens: int, dim: int, dtype: str = "fp16") -> int:
    """Bytes of the token states of so many texts. Raises FoundryError for an unknown type."""
    return num_texts * tokens * dim * _bytes_of(dtype)


def captions_used(mix: CaptionMix, num_generated: int) -> int:
    """How many of a sample's captions its mix ever draws, and so have to be stored."""
    generated = min(num_generated, mix.max_generated) if mix.original_probability < 1 else 0
    return generated + (1 if mix.original_probability > 0 or generated == 0 else 0)


def feed_size(
    mode: TextMode,
    num_images: int,
    latent_shape: Sequence[int],
    captions: int,
    tokens: int,
    dim: int,
    *,
    pooled_dim: int = 0,
    dtype: str = "fp16",
    encoders: Sequence[EncoderShape] = (),
    word_bytes: int = WORD_BYTES,
) -> FeedSize:
    """Storage and text operations of ``num_images`` with ``captions`` texts each, all of ``tokens`` tokens.

    ``encoders`` are those whose states are used (two for SDXL). Stored states cost their bytes and one encoding of each
    caption; encoded ones cost their words and one encoding of each image seen. ``stage`` and ``step`` cost the same
    operations: a stage overlaps them with training where there is another processor for it.
    Raises FoundryError for an unknown type or no captions.
    """
    if captions < 1:
        raise FoundryError(f"captions is {captions}; an image has at least its alt-text")
    texts = num_images * captions
    flops = sum(encoder.flops(tokens) for encoder in encoders)
    words = texts * (word_bytes + INDEX_BYTES)
    stored = state_bytes(texts, tokens, dim, dtype) + texts * pooled_dim * _bytes_of(dtype)
    index = num_images * 2 * INDEX_BYTES + texts * INDEX_BYTES  # captions start, sample key; text numbers
    if mode == "stored":
        return FeedSize(
            latent_bytes(num_images, latent_shape, dtype),
            stored + texts * INDEX_BYTES,
            index,
            texts * flops,
            0,
        )
    return FeedSize(latent_bytes(num_images, latent_shape, dtype), words, index, 0, flops)


def _bytes_of(dtype: str) -> int:
    if dtype not in BYTES_OF:
        raise FoundryError(f"dtype is '{dtype}'; known are {', '.join(BYTES_OF)}")
    return BYTES_OF[dtype]
