"""What ``dataset.json`` says of a dataset, and of each of its shards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict

from training.digests import canonical_json, sha256_bytes, sha256_file
from training.errors import FoundryError
from training.recipes.validation import validate
from training.shards.arrays import array_file, array_in

LATENT_FORMAT = "latents-2"
IMAGE_FORMAT = "images-1"
DESCRIPTION_FILE = "dataset.json"
SAMPLES_FILE = "samples.parquet"


class ShardDescription(BaseModel):
    """One shard: samples of one split, one latent shape and one resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str
    num_samples: int
    num_texts: int
    latent_shape: tuple[int, int, int]  # channels, height, width
    resolution: int | None = None  # side in pixels of the square with the area of its pictures


class DatasetDescription(BaseModel):
    """Contents of ``dataset.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    num_samples: int
    splits: dict[str, int]
    files: dict[str, str]  # name -> sha256
    sizes: dict[str, int] = {}  # name -> bytes
    shards: tuple[ShardDescription, ...] = ()
    image_shape: tuple[int, int, int] | None = None  # height, width, 3
    num_texts: int = 0
    max_tokens: int = 0  # longest text, and the length texts are padded to where a mask cannot be given
    text_dim: int = 0
    has_states: bool = False  # token states and pooled vectors are stored
    has_words: bool = False  # the texts themselves are stored
    columns: tuple[str, ...] = ()  # of samples.parquet
    autoencoder_digest: str | None = None
    text_encoder_digest: str | None = None

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """The different latent shapes, in order of their first shard."""
        return tuple(dict.fromkeys(shard.latent_shape for shard in self.shards))

    @property
    def latent_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width where all samples have the same, else None."""
        shapes = self.latent_shapes
        return shapes[0] if len(shapes) == 1 else None

    @property
    def resolutions(self) -> tuple[int | None, ...]:
        """The different resolutions, in order of their first shard."""
        return tuple(dict.fromkeys(shard.resolution for shard in self.shards))

    def row_starts(self) -> Int64[np.ndarray, " shards_plus_1"]:
        """First row of each shard, and one past the last row."""
        return _starts([shard.num_samples for shard in self.shards], 0)

    def text_starts(self) -> Int64[np.ndarray, " shards_plus_1"]:
        """First text number of each shard; text 0 is the empty text, which belongs to none."""
        return _starts([shard.num_texts for shard in self.shards], 1)

    def shard_files(self, shard: int, arrays: Sequence[str] | None = None) -> list[str]:
        """Names of a shard's files, or of those that hold some arrays."""
        return self._files(shard, arrays)

    def shared_files(self) -> list[str]:
        """Names of the files of the empty text, which all shards share."""
        return self._files(None, None)

    def stores(self, array: str) -> bool:
        """Whether the dataset was written with an array."""
        return array_file(array, 0) in self.files

    def _files(self, shard: int | None, arrays: Sequence[str] | None) -> list[str]:
        held = {file: array_in(file, shard) for file in self.files}
        return [
            file for file, name in held.items() if name is not None and (arrays is None or name in arrays)
        ]


def parse_description(text: str, where: str, expected_format: str) -> DatasetDescription:
    """``dataset.json`` from its text. Raises FoundryError when it is damaged or of another format."""
    try:
        values: Mapping[str, Any] = json.loads(text)
    except ValueError as error:
        raise FoundryError(f"{where}: cannot be read as JSON ({error}); write the dataset again") from error
    found = values.get("format") if isinstance(values, Mapping) else None
    if found != expected_format:
        raise FoundryError(
            f"{where}: format is '{found}', expected '{expected_format}'; name another folder, or write the "
            "dataset again where an older version wrote it"
        )
    return validate(DatasetDescription, values, where)


def read_description(folder: Path, expected_format: str, *, verify: bool = False) -> DatasetDescription:
    """Read ``dataset.json``. Raises FoundryError when missing, of another format, incomplete or damaged."""
    path = Path(folder) / DESCRIPTION_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise FoundryError(f"{path}: cannot be read ({error}); write the dataset again") from error
    description = parse_description(text, str(path), expected_format)
    for name, digest in description.files.items():
        if not (path.parent / name).is_file():
            raise FoundryError(f"{path.parent / name}: missing; write the dataset again")
        if verify and sha256_file(path.parent / name) != digest:
            raise FoundryError(f"{path.parent / name}: damaged, its sha256 differs; write the dataset again")
    return description


def digest_from_description(text: str, files: Mapping[str, str]) -> str:
    """:func:`training.digests.folder_digest` of a dataset whose files are not here, from its ``dataset.json``."""
    digests = {**files, DESCRIPTION_FILE: sha256_bytes(text.encode())}
    return sha256_bytes(canonical_json(sorted([name, digest] for name, digest in digests.items())).encode())


def _starts(counts: Sequence[int], first: int) -> Int64[np.ndarray, " n_plus_1"]:
    return np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]).astype(np.int64) + first
