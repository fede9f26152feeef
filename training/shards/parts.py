"""What a dataset is written from: parts of samples with their captions and texts, each small enough for memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Float16, Int, Int32, Int64

from training.randomness import sample_keys

SAMPLES_AT_ONCE = 256  # granularity at which a shard's size is looked at


@dataclass(frozen=True)
class TextRows:
    """Texts in order: their words, their states, or both. ``states`` has the tokens of all texts one after the other."""

    words: Sequence[str] | None = None
    lengths: Int32[np.ndarray, " texts"] | None = None
    states: Float16[np.ndarray, "tokens dim"] | None = None
    pooled: Float16[np.ndarray, "texts pooled_dim"] | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored of the texts, by the names of :data:`training.shards.arrays.SHARD_ARRAYS`."""
        arrays: dict[str, np.ndarray] = {}
        if self.lengths is not None and self.states is not None and self.pooled is not None:
            arrays["text_states"] = self.states
            arrays["text_offsets"] = np.cumsum(self.lengths, dtype=np.int64)
            arrays["pooled"] = self.pooled
        if self.words is not None:
            encoded = [word.encode("utf-8", "surrogatepass") for word in self.words]
            arrays["text_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
            arrays["text_starts"] = np.cumsum([len(word) for word in encoded], dtype=np.int64)
        return arrays

    def __len__(self) -> int:
        return len(self.words) if self.words is not None else len(self.lengths)  # type: ignore[arg-type]

    def take(self, chosen: Int64[np.ndarray, " m"]) -> TextRows:
        """Some of the texts, in the order given."""
        words = None if self.words is None else [self.words[index] for index in chosen.tolist()]
        if self.lengths is None or self.states is None or self.pooled is None:
            return TextRows(words)
        starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        lengths = self.lengths[chosen]
        rows = ragged_rows(starts[chosen], lengths)
        return TextRows(words, lengths, self.states[rows], self.pooled[chosen])


@dataclass(frozen=True)
class SamplePart:
    """Samples of one latent shape. ``samples`` has ``sample_id`` and ``split``, one row per latent.

    Captions of sample ``i`` are ``caption_text_index[caption_offsets[i]:caption_offsets[i + 1]]``, the alt-text first:
    numbers of this part's own ``texts``. ``more`` holds arrays of a row per sample that only some datasets store, by the
    names of :data:`training.shards.arrays.SHARD_ARRAYS`.
    """

    samples: pa.Table
    latents: Float16[np.ndarray, "n c h w"]
    caption_offsets: Int64[np.ndarray, " n_plus_1"]
    caption_text_index: Int64[np.ndarray, " m"]
    texts: TextRows
    resolution: int | None = None
    more: Mapping[str, np.ndarray] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored of the samples without their texts, ends without the 0 before them; see :meth:`TextRows.arrays`."""
        return {
            "latents": self.latents,
            "caption_offsets": self.caption_offsets[1:],
            "caption_text_index": self.caption_text_index,
            "sample_keys": sample_keys(self.samples["sample_id"].to_pylist()),
            **self.more,
        }

    def by_split(self) -> Iterator[tuple[str, SamplePart]]:
        """Pieces of at most :data:`SAMPLES_AT_ONCE` samples of one split each, order kept within a split."""
        splits = self.samples["split"].to_numpy(zero_copy_only=False).astype(str)
        for split in dict.fromkeys(splits.tolist()):
            rows = np.flatnonzero(splits == split)
            for start in range(0, len(rows), SAMPLES_AT_ONCE):
                yield split, self.take(rows[start : start + SAMPLES_AT_ONCE])

    def take(self, rows: Int64[np.ndarray, " m"]) -> SamplePart:
        """Some of the samples, with the texts that they point to and no others."""
        counts = self.caption_offsets[rows + 1] - self.caption_offsets[rows]
        pointed = self.caption_text_index[ragged_rows(self.caption_offsets[rows], counts)]
        used, renumbered = np.unique(pointed, return_inverse=True)
        return SamplePart(
            self.samples.take(pa.array(rows)),
            self.latents[rows],
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            renumbered.astype(np.int64),
            self.texts.take(used.astype(np.int64)),
            self.resolution,
            {name: array[rows] for name, array in self.more.items()},
        )


def ragged_rows(starts: Int[np.ndarray, " n"], lengths: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " total"]:
    """``starts[0] .. starts[0] + lengths[0] - 1``, then those of the next, as one array of numbers."""
    ends = np.cumsum(lengths, dtype=np.int64)
    shift = np.repeat(starts - (ends - lengths), lengths)
    return (np.arange(ends[-1] if len(ends) else 0) + shift).astype(np.int64)
