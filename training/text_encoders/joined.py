"""One encoder of several: states side by side or one after the other, pooled vectors from those that are named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor
from torch.nn.functional import pad

from training.recipes.text_encoder import EncoderSettings, encoder_digest, encoder_widths
from training.text_encoders.encoding import TextEncoder, TokenStates, build_encoder


class JoinedEncoder(TextEncoder):
    """SDXL's pair of CLIP models, SD3's three encoders, FLUX.1's T5 with CLIP-L's pooled vector."""

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        self.parts = [build_encoder(part) for part in settings.parts]
        self.digest = encoder_digest(settings)
        self.dim, self.pooled_dim = encoder_widths(settings)
        self.max_tokens = settings.total_tokens

    def to(self, device: str) -> JoinedEncoder:
        """Move the weights of all parts."""
        for part in self.parts:
            part.to(device)
        return self

    def lengths(self, texts: Sequence[str]) -> Int32[np.ndarray, " texts"]:
        """See :meth:`TextEncoder.lengths`."""
        each = np.stack([self.parts[index].lengths(texts) for index in self.settings.state_parts])
        return (each.sum(0) if self.settings.join == "tokens" else each.max(0)).astype(np.int32)

    def full(self, texts: Sequence[str]) -> list[str]:
        """See :meth:`TextEncoder.full`: those that fill any of the encoders."""
        parts = {*self.settings.state_parts, *self.settings.pooled_parts}
        found = {text for index in parts for text in self.parts[index].full(texts)}
        return [text for text in texts if text in found]

    @torch.inference_mode()
    def encode_batch(self, texts: Sequence[str]) -> TokenStates:
        """See :meth:`TextEncoder.encode_batch`."""
        settings = self.settings
        wanted = sorted({*settings.state_parts, *settings.pooled_parts})
        encoded = {index: self.parts[index].encode_batch(texts) for index in wanted}
        states = [encoded[index] for index in settings.state_parts]
        pooled = torch.cat([encoded[index].pooled for index in settings.pooled_parts], dim=1)
        if settings.join == "tokens":
            return _one_after_the_other(states, pooled, self.dim)
        return _side_by_side(states, pooled)


def _side_by_side(parts: Sequence[TokenStates], pooled: Tensor) -> TokenStates:
    """Features concatenated; a text that ends earlier in one part has zeros there."""
    width = max(part.states.shape[1] for part in parts)
    padded = [pad(part.states, (0, 0, 0, width - part.states.shape[1])) for part in parts]
    lengths = np.max([part.lengths for part in parts], axis=0).astype(np.int32)
    return TokenStates(torch.cat(padded, dim=2), lengths, pooled)


def _one_after_the_other(parts: Sequence[TokenStates], pooled: Tensor, dim: int) -> TokenStates:
    """Tokens of each text concatenated without a gap; narrow states have zeros behind."""
    lengths = np.sum([part.lengths for part in parts], axis=0).astype(np.int32)
    first = parts[0].states
    joined = first.new_zeros((len(lengths), int(lengths.max()), dim))
    start = np.zeros(len(lengths), np.int64)
    for part in parts:
        for row, length in enumerate(part.lengths.tolist()):
            begin = int(start[row])
            joined[row, begin : begin + length, : part.states.shape[2]] = part.states[row, :length]
        start += part.lengths
    return TokenStates(joined, lengths, pooled)
