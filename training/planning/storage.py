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

TextMode = Literal["stored", "stage", "step"]
TEXT_MODES: tuple[TextMode, ...] = ("stored", "stage", "step")
FP16, FP32 = 2, 4
BYTES_OF_WORDS = 400
"""Of one caption with its place in the file (assumed: recaptions of 60 to 70 English words)."""


@dataclass(frozen=True)
class Encoder:
    """A text encoder as far as cost goes: multiply-adds of one token, which are its weights beside the embeddings."""

    name: str
    dim: int
    tokens: int
    macs_per_token: int


def _transformer(layers: int, width: int, hidden: int) -> int:
    """Four projections of attention and two of the feed-forward, a layer."""
    return layers * (4 * width * width + 2 * width * hidden)


_CLIP_L = _transformer(12, 768, 3072)
_BIG_G = _transformer(32, 1280, 5120)
_T5_XXL = 24 * (4 * 4096 * 4096 + 3 * 4096 * 10240)  # gated feed-forward

ENCODERS: Mapping[int, Encoder] = MappingProxyType(
    {
        384: Encoder("MiniLM-L6", 384, 32, _transformer(6, 384, 1536)),
        1024: Encoder("OpenCLIP-H", 1024, 77, _transformer(24, 1024, 4096)),
        2048: Encoder("CLIP-L + OpenCLIP-bigG", 2048, 77, _CLIP_L + _BIG_G),
        4096: Encoder("T5-XXL", 4096, 120, _T5_XXL),
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


def text_costs(images: int, captions: int, images_seen: int, encoder: Encoder, tokens: int) -> list[TextCost]:
    """The three modes for a data set of ``images`` with ``captions`` each."""
    texts = images * captions
    flops_of_one = float(FLOPS_PER_MAC * encoder.macs_per_token * tokens)
    words = texts * BYTES_OF_WORDS
    stored = state_bytes(texts, tokens, encoder.dim)
    seen = flops_of_one * images_seen
    return [
        TextCost("stored", stored, flops_of_one * texts),
        TextCost("stage", words, seen),
        TextCost("step", words, seen),
    ]


def checkpoint_bytes(parameters: int, averages: int) -> int:
    """One checkpoint: weights, two moments and the averages in fp32."""
    return parameters * FP32 * (3 + averages)


def export_bytes(parameters: int, averages: int) -> int:
    """The model in fp32, and the raw weights beside it where an average is the model."""
    return parameters * FP32 * (2 if averages else 1)
