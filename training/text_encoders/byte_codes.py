"""Texts as their bytes: an encoder without parameters, for models that have to spell.

Sub-words cannot be spelt: a model that is told MiniLM's states learns words, not letters. Here every byte is a token: a fixed
code of its value, its place in its word counted from the word's middle, and which word it is in. There is no pooled vector to
speak of: it is zero, so that pictures can hear of a word through attention alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Float16, Int32

from training.recipes.text_encoder import BYTE_WIDTHS, EncoderSettings, encoder_digest
from training.text_encoders.encoding import TextEncoder, TokenStates

CODE, PLACE = 64, 32
"""Widths of a byte's code, of its place in its word and of the word's number."""
_SLOWEST = 64.0  # words or letters in a wave of the slowest kind, about


class ByteEncoder(TextEncoder):
    """UTF-8 bytes of a text, at most ``max_tokens``; a text of none has one token, which is zero but for its code."""

    dim, pooled_dim = BYTE_WIDTHS

    def __init__(self, settings: EncoderSettings) -> None:
        self.max_tokens = settings.max_tokens
        self.digest = encoder_digest(settings)
        self.device = torch.device("cpu")

    def to(self, device: str) -> ByteEncoder:
        """States are computed on the host and moved."""
        self.device = torch.device(device)
        return self

    def lengths(self, texts: Sequence[str]) -> Int32[np.ndarray, " texts"]:
        """See :meth:`TextEncoder.lengths`."""
        return np.array([len(self._bytes(text)) for text in texts], np.int32)

    def full(self, texts: Sequence[str]) -> list[str]:
        """See :meth:`TextEncoder.full`."""
        return [text for text in texts if len(text.encode()) > self.max_tokens]

    def encode_batch(self, texts: Sequence[str]) -> TokenStates:
        """See :meth:`TextEncoder.encode_batch`."""
        rows = [self._states(text) for text in texts]
        lengths = np.array([len(row) for row in rows], np.int32)
        states = np.zeros((len(rows), int(lengths.max()), self.dim), np.float16)
        for place, row in zip(states, rows, strict=True):
            place[: len(row)] = row
        pooled = np.zeros((len(rows), self.pooled_dim), np.float16)
        return TokenStates(
            torch.from_numpy(states).to(self.device), lengths, torch.from_numpy(pooled).to(self.device)
        )

    def _bytes(self, text: str) -> bytes:
        return (text.encode() or b"\0")[: self.max_tokens]

    def _states(self, text: str) -> Float16[np.ndarray, "tokens dim"]:
        told = self._bytes(text)
        places, numbers = places_in_words(text)
        in_word = np.isfinite(places[: len(told)])[:, None]
        place = np.where(in_word, waves(np.nan_to_num(places[: len(told)])), 0.0)
        rows = [byte_codes()[np.frombuffer(told, np.uint8)], place, waves(numbers[: len(told)])]
        return np.concatenate(rows, axis=1).astype(np.float16)


def places_in_words(text: str) -> tuple[Float[np.ndarray, " bytes"], Float[np.ndarray, " bytes"]]:
    """Of every byte its place counted from the middle of its word, nan between words, and the number of the word.

    A word is a run of letters and digits; what stands between words belongs to none and bears the number of the next.
    """
    places: list[float] = []
    numbers: list[float] = []
    number, start, characters = 0, 0, text or "\0"
    while start < len(characters):
        stop = start
        while stop < len(characters) and characters[stop].isalnum():
            stop += 1
        length = len(characters[start : max(stop, start + 1)].encode())
        in_word = stop > start
        middle = (length - 1) / 2
        places += [place - middle if in_word else np.nan for place in range(length)]
        numbers += [float(number)] * length
        number += in_word
        start = max(stop, start + 1)
    return np.array(places), np.array(numbers)


def waves(places: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n width"]:
    """Sines and cosines of places, from a wave of four letters to slow ones."""
    rates = 1.5 * _SLOWEST ** (-np.arange(PLACE // 2) / (PLACE // 2))
    angles = places[:, None] * rates
    return np.sqrt(2) * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


@cache
def byte_codes() -> Float[np.ndarray, "256 code"]:
    """A code of plus and minus one for every byte: bits of its sha256, the same everywhere."""
    digests = [hashlib.sha256(b"t2i byte %d" % value).digest()[: CODE // 8] for value in range(256)]
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8)).reshape(256, CODE)
    return 2.0 * bits - 1.0
