"""What must hold before samples are written into a training dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from training.errors import FoundryError
from training.shards.arrays import shard_array
from training.shards.parts import SamplePart, TextRows


def check_samples(folder: Path, samples: pa.Table, count: int) -> None:
    """Samples name themselves and their split, one row each. Raises FoundryError else."""
    missing = {"sample_id", "split"} - set(samples.column_names)
    if missing:
        raise FoundryError(f"{folder}: samples lack column '{min(missing)}'; give sample_id and split")
    if samples.num_rows != count or count == 0:
        raise FoundryError(
            f"{folder}: {samples.num_rows} samples for {count} arrays; give one row each, at least one"
        )


def check_part(folder: Path, part: SamplePart, max_tokens: int) -> None:
    """Samples, captions and texts of a part fit together. Raises FoundryError else."""
    check_samples(folder, part.samples, len(part.latents))
    check_texts(folder, part.texts, max_tokens)
    check_captions(folder, len(part.latents), part.caption_offsets, part.caption_text_index, len(part.texts))
    for name, rows in part.more.items():
        row = shard_array(name)
        if row.part == "samples" or row.per != "sample" or row.counts or len(rows) != len(part.latents):
            raise FoundryError(
                f"{folder}: {name} has {len(rows)} rows for {len(part.latents)} samples; give an array of a part of its "
                "own, with one row each"
            )


def check_captions(
    folder: Path, num_samples: int, offsets: np.ndarray, text_index: np.ndarray, num_texts: int
) -> None:
    """Every sample has a caption, and captions point at texts. Raises FoundryError else."""
    if len(offsets) != num_samples + 1 or offsets[0] != 0 or offsets[-1] != len(text_index):
        raise FoundryError(
            f"{folder}: caption_offsets must run from 0 to {len(text_index)} in {num_samples + 1} steps"
        )
    if np.any(np.diff(offsets) < 1):
        raise FoundryError(
            f"{folder}: every sample needs at least one caption, its alt-text; drop those without"
        )
    if text_index.min() < 0 or text_index.max() >= num_texts:
        raise FoundryError(f"{folder}: caption_text_index must lie in 0 .. {num_texts - 1}")


def check_texts(folder: Path, texts: TextRows, max_tokens: int) -> None:
    """Words, lengths, states and pooled vectors are of the same texts. Raises FoundryError else."""
    if texts.lengths is None or texts.states is None or texts.pooled is None:
        if texts.words is None or (texts.lengths, texts.states, texts.pooled) != (None, None, None):
            raise FoundryError(
                f"{folder}: texts need their words, or lengths, states and pooled together; give either or both"
            )
        return
    total = int(texts.lengths.sum())
    if total != len(texts.states) or len(texts.pooled) != len(texts.lengths):
        raise FoundryError(f"{folder}: text_lengths sum to {total}, text_states has {len(texts.states)} rows")
    if texts.lengths.min() < 1 or texts.lengths.max() > max_tokens:
        raise FoundryError(f"{folder}: text_lengths must lie in 1 .. {max_tokens}; truncate longer texts")
    if texts.words is not None and len(texts.words) != len(texts.lengths):
        raise FoundryError(
            f"{folder}: {len(texts.words)} words for {len(texts.lengths)} texts; give one each"
        )
