"""What every text encoder offers, and the part of it that they share: order, batches, padding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int32
from torch import Tensor

from training.conditioning import Condition
from training.recipes.text_encoder import EncoderSettings


class EncodedTexts(NamedTuple):
    """Texts in the order given. ``states`` holds the tokens of all texts one after the other."""

    states: Float16[np.ndarray, "tokens dim"]
    lengths: Int32[np.ndarray, " texts"]
    pooled: Float16[np.ndarray, "texts pooled_dim"]

    def split(self) -> list[Float16[np.ndarray, "length dim"]]:
        """The token states of each text."""
        return np.split(self.states, np.cumsum(self.lengths)[:-1])

    def padded(self, tokens: int) -> tuple[Float[np.ndarray, "texts tokens dim"], np.ndarray]:
        """Float32 states padded with zeros to ``tokens``, and the mask of real tokens."""
        mask = np.arange(tokens) < self.lengths[:, None]
        states = np.zeros((*mask.shape, self.states.shape[1]), np.float32)
        states[mask] = self.states
        return states, mask


class TokenStates(NamedTuple):
    """One batch on the encoder's device: float16, zeros after the end of a text. ``lengths`` is known without asking it."""

    states: Float16[Tensor, "texts tokens dim"]
    lengths: Int32[np.ndarray, " texts"]
    pooled: Float16[Tensor, "texts pooled_dim"]

    def mask(self, tokens: int | None = None) -> Bool[np.ndarray, "texts tokens"]:
        """Which tokens belong to a text."""
        return np.arange(tokens or self.states.shape[1]) < self.lengths[:, None]


class TextEncoder(ABC):
    """A text encoder. Texts longer than ``max_tokens`` (special tokens included) are cut.

    ``digest`` is the identity of every state that it makes; the empty string is a text like others and stands for
    "no caption".
    """

    digest: str
    dim: int
    pooled_dim: int
    max_tokens: int

    @abstractmethod
    def lengths(self, texts: Sequence[str]) -> Int32[np.ndarray, " texts"]:
        """How many states each text gets."""

    @abstractmethod
    def full(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that fill ``max_tokens``, so that an end beyond is lost."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> TokenStates:
        """States of texts in one forward pass, padded to the longest of them; no wait for the device."""

    @abstractmethod
    def to(self, device: str) -> TextEncoder:
        """Move the weights."""

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> EncodedTexts:
        """Token states, lengths and pooled vectors of any number of texts.

        Texts are encoded in order of length, so that little is padded.
        """
        texts = list(texts)
        order = np.argsort(self.lengths(texts), kind="stable") if texts else np.empty(0, np.int64)
        lengths = np.zeros(len(texts), np.int32)
        states: list[np.ndarray] = [np.empty(0)] * len(texts)
        pooled = np.empty((len(texts), self.pooled_dim), np.float16)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = self.encode_batch([texts[index] for index in chosen])
            pooled[chosen] = batch.pooled.cpu().numpy()
            lengths[chosen] = batch.lengths
            rows = batch.states.cpu().numpy()
            for index, row in zip(chosen, rows, strict=True):
                states[index] = row[: lengths[index]]
        joined = np.concatenate(states) if states else np.empty((0, self.dim), np.float16)
        return EncodedTexts(joined, lengths, pooled)

    def prompts(self, texts: Sequence[str]) -> Condition:
        """Texts as a sampler takes them: float32, padded to ``max_tokens``, with the empty text as their null."""
        encoded = self.encode([*texts, ""])
        states, mask = encoded.padded(self.max_tokens)
        return Condition.of_arrays(states, mask, encoded.pooled.astype(np.float32)).last_as_null()


class TokenEncoder(TextEncoder):
    """An encoder of one model: tokens in, hidden states out."""

    pad_id: int
    keep_padding: bool
    device: torch.device

    @abstractmethod
    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, cut to ``max_tokens``, without padding."""

    @abstractmethod
    def forward(
        self, ids: Tensor, mask: Tensor | None, ends: Tensor
    ) -> tuple[Float[Tensor, "texts tokens dim"], Float[Tensor, "texts pooled_dim"]]:
        """States and pooled vectors; ``ends`` is the place of each text's last token."""

    def lengths(self, texts: Sequence[str]) -> Int32[np.ndarray, " texts"]:
        """See :meth:`TextEncoder.lengths`."""
        if self.keep_padding:
            return np.full(len(texts), self.max_tokens, np.int32)
        return np.array([len(ids) for ids in self.tokens(texts)], np.int32)

    def full(self, texts: Sequence[str]) -> list[str]:
        """See :meth:`TextEncoder.full`."""
        counted = zip(texts, self.tokens(texts), strict=True)
        return [text for text, ids in counted if len(ids) >= self.max_tokens]

    @torch.inference_mode()
    def encode_batch(self, texts: Sequence[str]) -> TokenStates:
        """See :meth:`TextEncoder.encode_batch`."""
        tokens = self.tokens(texts)
        real = np.array([len(ids) for ids in tokens], np.int32)
        width = self.max_tokens if self.keep_padding else int(real.max())
        padded = np.full((len(tokens), width), self.pad_id, np.int64)
        for row, ids in enumerate(tokens):
            padded[row, : len(ids)] = ids
        is_real = np.arange(width) < real[:, None]
        mask = None if self.keep_padding else self._on_device(is_real.astype(np.int64))
        ends = self._on_device(real.astype(np.int64) - 1)
        states, pooled = self.forward(self._on_device(padded), mask, ends)
        states = states.half()
        if mask is not None:
            states = states * mask[..., None].half()
        lengths = np.full(len(tokens), width, np.int32) if self.keep_padding else real
        return TokenStates(states, lengths, pooled.half())

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def masked_mean(states: Float[Tensor, "b tokens dim"], mask: Tensor | None) -> Float[Tensor, "b dim"]:
    """Mean over real tokens, then unit length."""
    if mask is None:
        return torch.nn.functional.normalize(states.mean(1), dim=1)
    return torch.nn.functional.normalize((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=1)


def at_ends(states: Float[Tensor, "b tokens dim"], ends: Tensor) -> Float[Tensor, "b dim"]:
    """The state of each text's last token."""
    return states[torch.arange(len(states), device=states.device), ends]


def build_encoder(settings: EncoderSettings, device: str = "cpu") -> TextEncoder:
    """The encoder that the settings describe, its files verified where they come from a package.

    Raises FoundryError when a checkpoint is missing, of another family or no safetensors.
    """
    return _BUILDERS[settings.family](settings).to(device)


def _minilm(settings: EncoderSettings) -> TextEncoder:
    from training.text_encoders.minilm import MiniLMEncoder

    return MiniLMEncoder(max_tokens=settings.max_tokens)


def _bytes(settings: EncoderSettings) -> TextEncoder:
    from training.text_encoders.byte_codes import ByteEncoder

    return ByteEncoder(settings)


def _clip(settings: EncoderSettings) -> TextEncoder:
    from training.text_encoders.clip import ClipEncoder

    return ClipEncoder(settings)


def _open_clip(settings: EncoderSettings) -> TextEncoder:
    from training.text_encoders.open_clip_text import OpenClipEncoder

    return OpenClipEncoder(settings)


def _t5(settings: EncoderSettings) -> TextEncoder:
    from training.text_encoders.t5 import T5Encoder

    return T5Encoder(settings)


def _joined(settings: EncoderSettings) -> TextEncoder:
    from training.text_encoders.joined import JoinedEncoder

    return JoinedEncoder(settings)


_BUILDERS: Mapping[str, Callable[[EncoderSettings], TextEncoder]] = MappingProxyType(
    {
        "minilm": _minilm,
        "bytes": _bytes,
        "clip": _clip,
        "open_clip": _open_clip,
        "t5": _t5,
        "joined": _joined,
    }
)
