"""Small datasets of many shards, several shapes, and words beside states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from training.shards import SamplePart, TextRows, TrainingShards, write_training_parts

DIM = 6
SHAPES = ((4, 4, 4), (4, 2, 6))


def latent_of(name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """The latent of a sample, a function of its name, so that any reader can be checked by the name alone."""
    number = int(name.split("-")[-1])
    return (np.arange(np.prod(shape)).reshape(shape) % 7 + number).astype(np.float16)


def states_of(word: str) -> np.ndarray:
    """The token states of a text, a function of the word."""
    return np.full((1 + len(word) % 3, DIM), sum(map(ord, word)) % 97, np.float16)


def text_rows(words: list[str], *, with_words: bool = True, with_states: bool = True) -> TextRows:
    """Texts with words, states or both."""
    kept = words if with_words else None
    if not with_states:
        return TextRows(kept)
    states = [states_of(word) for word in words]
    return TextRows(
        kept,
        np.array([len(rows) for rows in states], np.int32),
        np.concatenate(states),
        np.stack([rows[0] for rows in states]),
    )


def part(
    names: list[str],
    shape: tuple[int, int, int] = SHAPES[0],
    resolution: int | None = None,
    split: str = "train",
    **texts: bool,
) -> SamplePart:
    """Samples with two captions each: "NAME a" and one that all share."""
    words = [f"{name} a" for name in names] + ["shared"]
    index = np.array([[i, len(names)] for i in range(len(names))], np.int64).reshape(-1)
    return SamplePart(
        pa.table({"sample_id": names, "split": [split] * len(names)}),
        np.stack([latent_of(name, shape) for name in names]),
        np.arange(0, 2 * len(names) + 1, 2, dtype=np.int64),
        index,
        text_rows(words, **texts),
        resolution,
    )


def names(count: int, prefix: str = "s") -> list[str]:
    """Sample ids."""
    return [f"{prefix}-{index}" for index in range(count)]


def parts(count: int, size: int = 8) -> Iterator[SamplePart]:
    """Parts of one shape, ``size`` samples each."""
    everything = names(count)
    for start in range(0, count, size):
        yield part(everything[start : start + size])


def write(
    folder: Path, pieces: Iterator[SamplePart] | list[SamplePart], **settings: object
) -> TrainingShards:
    """Write pieces (a shard as soon as there are 1,000 bytes) and open the dataset."""
    texts = {name: bool(settings.pop(name)) for name in ("with_words", "with_states") if name in settings}
    write_training_parts(
        folder,
        pieces,
        null_text=text_rows([""], **texts),
        autoencoder_digest="a" * 64,
        text_encoder_digest="b" * 64,
        **{"shard_bytes": 1000, **settings},  # type: ignore[arg-type]
    )
    return TrainingShards.open(folder)
