"""Reader of folders of pictures, for what trains on pixels: the autoencoder and the judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int, Int64

from training.errors import FoundryError
from training.randomness import sample_keys
from training.shards.description import IMAGE_FORMAT, SAMPLES_FILE, DatasetDescription, read_description
from training.shards.sample_marks import is_part


class ImageShards:
    """Reader of pictures, with captions where they were written."""

    def __init__(self, folder: Path, description: DatasetDescription) -> None:
        self.folder = folder
        self.description = description
        self.samples = pq.read_table(folder / SAMPLES_FILE)
        self.images = np.load(folder / "images.npy", mmap_mode="r")

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> ImageShards:
        """Open a folder of pictures; ``verify`` hashes every file first."""
        return cls(folder, read_description(folder, IMAGE_FORMAT, verify=verify))

    def select(
        self,
        splits: Sequence[str],
        max_samples: int | None = None,
        *,
        raw: bool = False,
        max_concepts: int | None = None,
    ) -> Int64[np.ndarray, " n"]:
        """Row numbers of the pictures in ``splits`` and of the part asked for, ascending.

        Raises FoundryError when there are none.
        """
        chosen = np.isin(self.samples["split"].to_numpy(zero_copy_only=False).astype(str), list(splits))
        chosen &= is_part(self.samples, self.folder, raw=raw, max_concepts=max_concepts)
        rows = np.flatnonzero(chosen).astype(np.int64)[:max_samples]
        if len(rows) == 0:
            raise FoundryError(
                f"{self.folder}: no samples in splits {', '.join(splits)}; it has {self.description.splits}"
            )
        return rows

    def sample_keys(self, rows: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """:func:`training.randomness.sample_keys` of some pictures."""
        return sample_keys(self.samples["sample_id"].take(pa.array(rows)).to_pylist())

    def gather_images(self, rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b 3 h w"]:
        """Pictures as float32 in [-1, 1], channels first."""
        return np.ascontiguousarray(self.images[rows].transpose(0, 3, 1, 2), np.float32) / 127.5 - 1.0

    def captions(self) -> list[list[str]]:
        """Captions of every sample. Raises FoundryError when the dataset was written without."""
        if "captions" not in self.samples.column_names:
            raise FoundryError(
                f"{self.folder}: has no captions; write them with write_image_shards(captions=...)"
            )
        return self.samples["captions"].to_pylist()
