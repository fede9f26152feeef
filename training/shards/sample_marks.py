"""Parts of a dataset that samples are told apart by: what curation kept, and which concepts their captions name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool
from numpy import ndarray

from training.errors import FoundryError

CURATED, CONCEPT_RANK = "curated", "concept_rank"
"""Columns of ``samples.parquet``, both optional: whether curation kept the sample, and the place (0 is the commonest
noun of the training alt-texts) of the rarest noun that its captions name; -1 where they name none."""


def is_part(
    samples: pa.Table, folder: Path, *, raw: bool, max_concepts: int | None
) -> Bool[ndarray, " samples"]:
    """Which samples belong to a part: the curated ones, all when ``raw``; of these, about the first concepts only.

    Raises FoundryError when the dataset was written without concepts.
    """
    chosen = np.ones(samples.num_rows, bool)
    if not raw and CURATED in samples.column_names:
        chosen &= samples[CURATED].to_numpy(zero_copy_only=False).astype(bool)
    if max_concepts is not None:
        if CONCEPT_RANK not in samples.column_names:
            raise FoundryError(
                f"{folder}: dataset.max_concepts is {max_concepts}, but its samples have no column '{CONCEPT_RANK}'; "
                "materialize training_shards again"
            )
        rank = samples[CONCEPT_RANK].to_numpy()
        chosen &= (rank >= 0) & (rank < max_concepts)
    return chosen
