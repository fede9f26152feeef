"""Bytes on disk: latents, texts in three modes, checkpoints and exports; and what encoding texts costs instead.

Stored: the states of every caption, encoded once. Stage: words alone, encoded by a thread or GPU beside the training.
Step: words alone, encoded by the training itself, whose GPUs wait. The last two encode the caption of every image seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from training.planning.compute import FLOPS_PER_MAC
from training.recipes.dataset import CaptionMix

TextMode = Literal["stored", "stage", "step"]
FP16, FP32 = 2, 4
BYTES_OF_WORDS = 400
"""Of one caption with its place in the file (assumed: recaptions of 60 to 70 English words)."""


@dataclass(frozen=True)
class Encoder:
    """One text encoder or two side by side, as far as cost goes.

    ``macs_per_token`` are its weights beside the embeddings; ``macs_per_pair`` those that attention's two products spend
    on each pair of tokens.
    """

    name: str
    dim: int
    tokens: int
    macs_per_token: int
    macs_per_pair: int

    def flops(self, tokens: int) -> int:
        """Operations of one forward pass of one text."""
        return FLOPS_PER_MAC * (self.macs_per_token * tokens + self.macs_per_pair * tokens * tokens)


def transformer(layers: int, width: int, *, hidden: int, feed_forward_maps: int = 2) -> tuple[int, int]:
    """Multiply-adds a token and a pair of tokens: four projections of attention, a feed-forward of two or three maps."""
    return layers * (4 * width * width + feed_forward_maps * width * hidden), layers * 2 * width


_CLIP_L = transformer(12, 768, hidden=3072)
_BIG_G = transformer(32, 1280, hidden=5120)

ENCODERS: Mapping[int, Encoder] = MappingProxyType(
    {
        384: Encoder("MiniLM-L6", 384, 32, *transformer(6, 384, hidden=1536)),
        1024: Encoder("OpenCLIP-H", 1024, 77, *transformer(24, 1024, hidden=4096)),
        2048: Encoder("CLIP-L + OpenCLIP-bigG", 2048, 77, _CLIP_L[0] + _BIG_G[0], _CLIP_L[1] + _BIG_G[1]),
        4096: Encoder(
            "T5-XXL", 4096, 120, *transformer(24, 4096, hidden=10240, feed_forward_maps=3)
        ),  # gated feed-forward
    }
)
"""By the width of the states that a backbone takes."""


@dataclass(frozen=True)
class TextCost:
    """One mode: bytes stored for the data set, and FLOPs spent on encoding during the whole run."""

    mode: TextMode
    stored_bytes: int
    encode_flops: float


def latent_bytes(images: int, shape: tuple[int, int, int]) -> int:
    """Latents in fp16."""
    channels, height, width = shape
    return images * channels * height * width * FP16


def state_bytes(texts: int, tokens: int, dim: int) -> int:
    """Token states in fp16, unpadded length taken as the longest."""
    return texts * tokens * dim * FP16


def captions_used(mix: CaptionMix) -> int:
    """How many of a sample's captions its mix ever draws, and so have to be stored."""
    generated = mix.max_generated if mix.original_probability < 1 else 0
    return max(1, generated + (mix.original_probability > 0))


def text_costs(images: int, captions: int, images_seen: int, encoder: Encoder, tokens: int) -> list[TextCost]:
    """The three modes for a data set of ``images`` with ``captions`` each."""
    texts = images * captions
    flops_of_one = float(encoder.flops(tokens))
    words = texts * BYTES_OF_WORDS
    stored = state_bytes(texts, tokens, encoder.dim)
    seen = flops_of_one * images_seen
    return [
        TextCost("stored", stored, flops_of_one * texts),
        TextCost("stage", words, seen),
        TextCost("step", words, seen),
    ]


def checkpoint_bytes(parameters: int, averages: int, optimizer_bytes: int) -> int:
    """One checkpoint: weights and averages in fp32, and what the optimiser keeps."""
    return parameters * FP32 * (1 + averages) + optimizer_bytes


def export_bytes(parameters: int, averages: int) -> int:
    """The model in fp32, and the raw weights beside it where an average is the model."""
    return parameters * FP32 * (2 if averages else 1)
