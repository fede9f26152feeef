"""The on-disk training dataset: memory-mapped arrays beside ``dataset.json``, read by gathering rows.

Latents, captions and text states of all splits lie in one folder. Texts are stored once; each sample points to
k + 1 of them, the original alt-text first. Token states are ragged: row ``text_offsets[i]`` starts text ``i``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Float16, Int, Int32, Int64, UInt8
from pydantic import BaseModel, ConfigDict

from training.digests import sha256_file
from training.errors import FoundryError
from training.randomness import sample_keys
from training.run_folder import write_error, write_text_atomic
from training.selection import is_part
from training.shard_checks import check_captions, check_samples, check_texts
from training.validation import validate

LATENT_FORMAT = "latents-1"
IMAGE_FORMAT = "images-1"


class DatasetDescription(BaseModel):
    """Contents of ``dataset.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    num_samples: int
    splits: dict[str, int]
    files: dict[str, str]  # name -> sha256
    latent_shape: tuple[int, int, int] | None = None  # channels, height, width
    image_shape: tuple[int, int, int] | None = None  # height, width, 3
    num_texts: int = 0
    max_tokens: int = 0  # longest text, and the length texts are padded to where a mask cannot be given
    text_dim: int = 0
    null_text_index: int | None = None  # the empty text: condition of unguided prediction
    autoencoder_digest: str | None = None
    text_encoder_digest: str | None = None


def write_training_shards(
    folder: Path,
    samples: pa.Table,
    latents: Float16[np.ndarray, "n c h w"],
    caption_offsets: Int64[np.ndarray, " n_plus_1"],
    caption_text_index: Int64[np.ndarray, " m"],
    text_states: Float16[np.ndarray, "tokens dim"],
    text_lengths: Int32[np.ndarray, " t"],
    pooled: Float16[np.ndarray, "t pooled_dim"],
    *,
    null_text_index: int,
    autoencoder_digest: str,
    text_encoder_digest: str,
    max_tokens: int = 32,
) -> DatasetDescription:
    """Write the dataset that diffusion models train on; ``folder`` is replaced as a whole or left as it was.

    ``samples`` has ``sample_id`` and ``split``, one row per latent. Captions of sample ``i`` are
    ``caption_text_index[caption_offsets[i]:caption_offsets[i + 1]]``, the alt-text first. ``text_states`` holds the
    token states of all texts one after the other, ``text_lengths`` how many tokens each has (1 to ``max_tokens``);
    ``null_text_index`` is the text that stands for "no caption" (the empty string).
    Raises FoundryError when the parts do not fit together or the disk is full.
    """
    text_offsets = np.concatenate([[0], np.cumsum(text_lengths, dtype=np.int64)])
    check_samples(folder, samples, len(latents))
    check_captions(folder, len(latents), caption_offsets, caption_text_index, len(text_lengths))
    check_texts(folder, text_states, text_lengths, pooled, null_text_index, max_tokens)
    arrays = {
        "latents": latents,
        "caption_offsets": caption_offsets,
        "caption_text_index": caption_text_index,
        "text_states": text_states,
        "text_offsets": text_offsets,
        "pooled": pooled,
    }
    about = {
        "format": LATENT_FORMAT,
        "latent_shape": latents.shape[1:],
        "num_texts": len(text_lengths),
        "max_tokens": max_tokens,
        "text_dim": text_states.shape[1],
        "null_text_index": null_text_index,
        "autoencoder_digest": autoencoder_digest,
        "text_encoder_digest": text_encoder_digest,
    }
    return _write_folder(folder, samples, arrays, about)


def write_image_shards(
    folder: Path,
    samples: pa.Table,
    images: UInt8[np.ndarray, "n h w 3"],
    captions: Sequence[Sequence[str]] | None = None,
) -> DatasetDescription:
    """Write pictures for the autoencoder, with captions (at least one a picture) for the contrastive objective.

    Raises FoundryError when the parts do not fit together or the disk is full.
    """
    check_samples(folder, samples, len(images))
    if captions is not None:
        if len(captions) != len(images) or not all(captions):
            raise FoundryError(
                f"{folder}: every picture needs at least one caption; drop pictures without any"
            )
        samples = samples.append_column(
            "captions", pa.array([list(c) for c in captions], pa.list_(pa.string()))
        )
    return _write_folder(
        folder, samples, {"images": images}, {"format": IMAGE_FORMAT, "image_shape": images.shape[1:]}
    )


def _write_folder(
    folder: Path, samples: pa.Table, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> DatasetDescription:
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        pq.write_table(samples, temporary / "samples.parquet")
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise write_error(folder, error) from error
    names, counts = np.unique(samples["split"].to_numpy(zero_copy_only=False).astype(str), return_counts=True)
    description = DatasetDescription(
        num_samples=samples.num_rows,
        splits={str(name): int(count) for name, count in zip(names, counts, strict=True)},
        files={path.name: sha256_file(path) for path in sorted(temporary.iterdir())},
        **about,
    )
    write_text_atomic(temporary / "dataset.json", json.dumps(description.model_dump(mode="json"), indent=1))
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    return description


@dataclass(frozen=True)
class TextBatch:
    """Token states of a batch of texts, zero where ``mask`` is false."""

    states: Float[np.ndarray, "b tokens dim"]
    mask: Bool[np.ndarray, "b tokens"]


class _Shards:
    """What both dataset forms share: description, samples, selected rows."""

    def __init__(self, folder: Path, description: DatasetDescription) -> None:
        self.folder = folder
        self.description = description
        self.samples = pq.read_table(folder / "samples.parquet")

    def select(
        self,
        splits: Sequence[str],
        max_samples: int | None = None,
        *,
        raw: bool = False,
        max_concepts: int | None = None,
    ) -> Int64[np.ndarray, " n"]:
        """Row numbers of the samples in ``splits`` and of the part asked for (:mod:`training.selection`), ascending.

        Raises FoundryError when there are none.
        """
        chosen = np.isin(self.samples["split"].to_numpy(zero_copy_only=False).astype(str), list(splits))
        chosen &= is_part(self.samples, self.folder, raw=raw, max_concepts=max_concepts)
        rows = np.flatnonzero(chosen).astype(np.int64)[:max_samples]
        if len(rows) == 0:
            concepts = "" if max_concepts is None else f" about the {max_concepts} commonest nouns"
            raise FoundryError(
                f"{self.folder}: no samples in splits {', '.join(splits)}{concepts}; it has {self.description.splits}"
            )
        return rows

    def sample_keys(self, rows: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """:func:`training.randomness.sample_keys` of some samples."""
        return sample_keys(self.samples["sample_id"].take(pa.array(rows)).to_pylist())

    def array(self, name: str) -> np.ndarray:
        """One array, memory-mapped read-only."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")


class TrainingShards(_Shards):
    """Reader of latents with captions and text states."""

    def __init__(self, folder: Path, description: DatasetDescription) -> None:
        super().__init__(folder, description)
        self.latents = self.array("latents")
        self.caption_offsets = np.asarray(self.array("caption_offsets"))
        self.caption_text_index = np.asarray(self.array("caption_text_index"))
        self.text_states = self.array("text_states")
        self.text_offsets = np.asarray(self.array("text_offsets"))
        self.pooled = self.array("pooled")

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> TrainingShards:
        """Open a dataset folder; ``verify`` hashes every file first.

        Raises FoundryError when it is missing, of another format or damaged.
        """
        return cls(folder, read_description(folder, LATENT_FORMAT, verify=verify))

    def gather_latents(self, rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b c h w"]:
        """Latents as float32, scaled as the backbone sees them."""
        return self.latents[rows].astype(np.float32)

    def num_captions(self, rows: Int[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """How many captions each sample has, the alt-text included."""
        return self.caption_offsets[rows + 1] - self.caption_offsets[rows]

    def text_of(
        self, rows: Int[np.ndarray, " b"], captions: Int[np.ndarray, " b"]
    ) -> Int64[np.ndarray, " b"]:
        """Text numbers of the chosen captions."""
        return self.caption_text_index[self.caption_offsets[rows] + captions]

    def gather_text(self, texts: Int[np.ndarray, " b"], pad_to: int | None = None) -> TextBatch:
        """Token states of texts as float32, padded with zeros to the longest of them or to ``pad_to`` tokens."""
        starts, lengths = self.text_offsets[texts], self.text_offsets[texts + 1] - self.text_offsets[texts]
        steps = np.arange(pad_to or int(lengths.max()))
        mask = steps < lengths[:, None]
        states = np.zeros((*mask.shape, self.text_states.shape[1]), np.float32)
        states[mask] = self.text_states[(starts[:, None] + steps)[mask]]
        return TextBatch(states, mask)

    def null_text(self, count: int) -> Int64[np.ndarray, " b"]:
        """The empty text, ``count`` times."""
        return np.full(count, self.description.null_text_index, np.int64)


class ImageShards(_Shards):
    """Reader of pictures, with captions where they were written."""

    def __init__(self, folder: Path, description: DatasetDescription) -> None:
        super().__init__(folder, description)
        self.images = self.array("images")

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> ImageShards:
        """Open a folder of pictures; see :meth:`TrainingShards.open`."""
        return cls(folder, read_description(folder, IMAGE_FORMAT, verify=verify))

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


def read_description(folder: Path, expected_format: str, *, verify: bool = False) -> DatasetDescription:
    """Read ``dataset.json``. Raises FoundryError when missing, of another format, incomplete or damaged."""
    path = Path(folder) / "dataset.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(f"{path}: cannot be read as JSON ({error}); write the dataset again") from error
    description = validate(DatasetDescription, values, str(path))
    if description.format != expected_format:
        raise FoundryError(
            f"{path}: format is '{description.format}', expected '{expected_format}'; name another folder"
        )
    for name, digest in description.files.items():
        if not (path.parent / name).is_file():
            raise FoundryError(f"{path.parent / name}: missing; write the dataset again")
        if verify and sha256_file(path.parent / name) != digest:
            raise FoundryError(f"{path.parent / name}: damaged, its sha256 differs; write the dataset again")
    return description
