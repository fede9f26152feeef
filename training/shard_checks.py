"""What must hold before a training dataset is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from training.errors import FoundryError


def check_samples(folder: Path, samples: pa.Table, count: int) -> None:
    """Samples name themselves and their split, one row each. Raises FoundryError else."""
    missing = {"sample_id", "split"} - set(samples.column_names)
    if missing:
        raise FoundryError(f"{folder}: samples lack column '{min(missing)}'; give sample_id and split")
    if samples.num_rows != count or count == 0:
        raise FoundryError(
            f"{folder}: {samples.num_rows} samples for {count} arrays; give one row each, at least one"
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


def check_texts(
    folder: Path,
    states: np.ndarray,
    lengths: np.ndarray,
    pooled: np.ndarray,
    null_index: int,
    max_tokens: int,
) -> None:
    """Lengths, states and the empty text fit together. Raises FoundryError else."""
    if int(lengths.sum()) != len(states) or len(pooled) != len(lengths):
        raise FoundryError(
            f"{folder}: text_lengths sum to {int(lengths.sum())}, text_states has {len(states)} rows"
        )
    if lengths.min() < 1 or lengths.max() > max_tokens:
        raise FoundryError(f"{folder}: text_lengths must lie in 1 .. {max_tokens}; truncate longer texts")
    if not 0 <= null_index < len(lengths):
        raise FoundryError(
            f"{folder}: null_text_index is {null_index}; it must name one of {len(lengths)} texts"
        )
