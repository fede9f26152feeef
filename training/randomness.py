"""Counter-based randomness: every draw is a function of (seed, purpose, epoch, sample row).

Resuming, splitting a batch or adding workers draws the same numbers for the same sample, and no sample meets
the same noise in two epochs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=256)
def stream_key(seed: int, purpose: str, epoch: int) -> tuple[int, int]:
    """Two 64-bit words that identify a random stream."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def permutation(seed: int, epoch: int, num_samples: int, purpose: str = "order") -> Int64[np.ndarray, " n"]:
    """Order in which the samples of one epoch are seen."""
    key = np.array(stream_key(seed, purpose, epoch), np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_samples)


def uniform(seed: int, purpose: str, epoch: int, rows: Int[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """One number in [0, 1) per row, by the SplitMix64 finalizer over (stream key, row)."""
    low, high = stream_key(seed, purpose, epoch)
    with np.errstate(over="ignore"):
        state = (rows.astype(np.uint64) + np.uint64(1)) * _GOLDEN + np.uint64(low)
        mixed = _finalize(_finalize(state) ^ np.uint64(high))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _finalize(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def normal(
    seed: int, purpose: str, epoch: int, row: int, shape: Sequence[int]
) -> Float[np.ndarray, " *shape"]:
    """Standard normal float32 numbers of one row: Philox keyed by the stream, its counter started at the row."""
    low, high = stream_key(seed, purpose, epoch)
    bits = np.random.Philox(key=np.array([low, high], np.uint64), counter=np.array([0, 0, 0, row], np.uint64))
    return np.random.Generator(bits).standard_normal(tuple(shape), dtype=np.float32)


def _fill_normal(
    seed: int, purpose: str, epoch: int, rows: np.ndarray, chosen: np.ndarray, drawn: np.ndarray
) -> None:
    """What :func:`normal` draws, for many rows: one generator whose counter is set anew for each."""
    bits = np.random.Philox(key=np.array(stream_key(seed, purpose, epoch), np.uint64))
    generator = np.random.Generator(bits)
    state: Any = bits.state
    for index in chosen.tolist():
        state["state"]["counter"][:] = (0, 0, 0, rows[index])
        bits.state = state
        generator.standard_normal(dtype=np.float32, out=drawn[index])


@dataclass(frozen=True)
class Draw:
    """The random numbers of one batch: ``rows[i]`` is seen in epoch ``epochs[i]`` as image ``first_image + i``."""

    seed: int
    epochs: Int64[np.ndarray, " b"]
    rows: Int64[np.ndarray, " b"]
    first_image: int = 0

    def uniform(self, purpose: str) -> Float64[np.ndarray, " b"]:
        """One number in [0, 1) per sample."""
        drawn = np.empty(len(self.rows))
        for epoch in np.unique(self.epochs):
            chosen = self.epochs == epoch
            drawn[chosen] = uniform(self.seed, purpose, int(epoch), self.rows[chosen])
        return drawn

    def normal(self, purpose: str, shape: Sequence[int]) -> Float[np.ndarray, "b ..."]:
        """Standard normal float32 numbers of the given shape per sample."""
        drawn = np.empty((len(self.rows), *shape), np.float32)
        for epoch in np.unique(self.epochs):
            _fill_normal(
                self.seed, purpose, int(epoch), self.rows, np.flatnonzero(self.epochs == epoch), drawn
            )
        return drawn

    def captions(
        self,
        keys: Int[np.ndarray, " b"],
        num_captions: Int[np.ndarray, " b"],
        original_probability: float,
        max_generated: int,
    ) -> Int64[np.ndarray, " b"]:
        """:func:`caption_index` of each sample; ``keys`` and ``num_captions`` are the batch's."""
        drawn = np.empty(len(self.rows), np.int64)
        for epoch in np.unique(self.epochs):
            chosen = self.epochs == epoch
            drawn[chosen] = caption_index(
                self.seed, int(epoch), keys[chosen], num_captions[chosen],
                original_probability, max_generated,
            )  # fmt: skip
        return drawn

    def part(self, start: int, stop: int) -> Draw:
        """The draws of samples ``start`` to ``stop`` of the batch."""
        return Draw(self.seed, self.epochs[start:stop], self.rows[start:stop], self.first_image + start)


class SampleOrder:
    """The endless shuffled sequence of rows: image number ``i`` is row ``permutation(epoch)[i % n]``."""

    def __init__(self, seed: int, num_samples: int) -> None:
        self.seed = seed
        self.num_samples = num_samples
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def draw(self, images_seen: int, count: int) -> Draw:
        """Rows and epochs of the next ``count`` images after ``images_seen``; may straddle epochs."""
        positions = np.arange(images_seen, images_seen + count, dtype=np.int64)
        epochs = positions // self.num_samples
        rows = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = self._order_of(int(epoch))[positions[chosen] % self.num_samples]
        return Draw(self.seed, epochs, rows, images_seen)

    def _order_of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, permutation(self.seed, epoch, self.num_samples)
        return self._order


def sample_keys(sample_ids: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """A number for each sample's id, for draws that have to stay the same when other samples come or go."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in sample_ids)
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)


def caption_index(
    seed: int,
    epoch: int,
    keys: Int[np.ndarray, " b"],
    num_captions: Int[np.ndarray, " b"],
    original_probability: float,
    max_generated: int,
) -> Int64[np.ndarray, " b"]:
    """Which caption each sample shows in this epoch: 0 is the alt-text, 1..k the generated ones, best first.

    A function of (seed, epoch, sample_id) alone: ``keys`` are :func:`sample_keys`. The alt-text is drawn with
    ``original_probability``, else one of the first ``max_generated`` generated captions uniformly; a sample without
    generated captions always shows its alt-text (Scalability of Diffusion-based Text-to-Image Generation, section 4:
    0.5, and 0.1 for each of five).
    """
    return pick_caption(
        uniform(seed, "caption", epoch, keys), num_captions, original_probability, max_generated
    )


def pick_caption(
    drawn: Float64[np.ndarray, " b"],
    num_captions: Int[np.ndarray, " b"],
    original_probability: float,
    max_generated: int,
) -> Int64[np.ndarray, " b"]:
    """Turn uniform numbers into caption indices; see :func:`caption_index`."""
    generated = np.minimum(num_captions.astype(np.int64) - 1, max_generated)
    if original_probability >= 1.0:
        return np.zeros(len(drawn), np.int64)
    share = (drawn - original_probability) / (1.0 - original_probability)
    picked = 1 + np.floor(np.clip(share, 0.0, 1.0) * generated).astype(np.int64)
    return np.where((drawn < original_probability) | (generated < 1), 0, np.minimum(picked, generated))
