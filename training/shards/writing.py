"""Writing a dataset: from parts of bounded size into shards of bounded size, replacing the folder as a whole."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float16, Int32, Int64, UInt8

from training.digests import sha256_file
from training.errors import FoundryError, write_error
from training.run_folder import write_text_atomic
from training.shards.array_file import ArrayFile
from training.shards.arrays import Item, array_file, shard_array
from training.shards.checks import check_part, check_samples, check_texts
from training.shards.description import (
    DESCRIPTION_FILE,
    IMAGE_FORMAT,
    LATENT_FORMAT,
    SAMPLES_FILE,
    DatasetDescription,
    ShardDescription,
)
from training.shards.parts import SamplePart, TextRows

SHARD_BYTES = 4 * 2**30
_SCRATCH = ".samples"

_Kind = tuple[str, tuple[int, ...], int | None]  # split, latent shape, resolution


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
    shard_bytes: int = SHARD_BYTES,
) -> DatasetDescription:
    """Write a dataset that fits into memory; see :func:`write_training_parts` and :class:`SamplePart`.

    ``null_text_index`` is the text that stands for "no caption" (the empty string). Where ``samples`` has a column
    ``captions``, the texts' words are stored too, so that they can be encoded while training.
    Raises FoundryError when the parts do not fit together or the disk is full.
    """
    if not 0 <= null_text_index < len(text_lengths):
        raise FoundryError(
            f"{folder}: null_text_index is {null_text_index}; it must name one of {len(text_lengths)} texts"
        )
    texts = TextRows(None, text_lengths, text_states, pooled)
    part = SamplePart(samples, latents, caption_offsets, caption_text_index, texts)
    check_part(folder, part, max_tokens)
    null = texts.take(np.array([null_text_index]))
    if "captions" in samples.column_names:
        texts = TextRows(_words(folder, part), text_lengths, text_states, pooled)
        part = SamplePart(samples, latents, caption_offsets, caption_text_index, texts)
        null = TextRows([""], null.lengths, null.states, null.pooled)
    return write_training_parts(
        folder,
        [part],
        null_text=null,
        autoencoder_digest=autoencoder_digest,
        text_encoder_digest=text_encoder_digest,
        max_tokens=max_tokens,
        shard_bytes=shard_bytes,
    )


def write_training_parts(
    folder: Path,
    parts: Iterable[SamplePart],
    *,
    null_text: TextRows,
    autoencoder_digest: str,
    text_encoder_digest: str,
    max_tokens: int = 32,
    shard_bytes: int = SHARD_BYTES,
) -> DatasetDescription:
    """Write the dataset that diffusion models train on; ``folder`` is replaced as a whole or left as it was.

    Memory is bounded by one part: rows go to disk as they come. A shard is closed once it has ``shard_bytes``.
    ``null_text`` is the empty text alone; all parts store what it does (words, states or both).
    Raises FoundryError when the parts do not fit together or the disk is full.
    """
    check_texts(folder, null_text, max_tokens)
    with _replacing(folder) as temporary:
        writer = _Writer(folder, temporary, null_text, shard_bytes)
        with writer:
            for part in parts:
                check_part(folder, part, max_tokens)
                for split, piece in part.by_split():
                    writer.add(split, piece)
        columns = _join_samples(folder, temporary, len(writer.shards))
        about = {
            "format": LATENT_FORMAT,
            "shards": tuple(writer.shards),
            "num_texts": 1 + sum(shard.num_texts for shard in writer.shards),
            "max_tokens": max_tokens,
            "text_dim": 0 if null_text.states is None else null_text.states.shape[1],
            "has_states": null_text.states is not None,
            "has_words": null_text.words is not None,
            "columns": columns,
            "autoencoder_digest": autoencoder_digest,
            "text_encoder_digest": text_encoder_digest,
        }
        counts: dict[str, int] = {}
        for shard in writer.shards:
            counts[shard.split] = counts.get(shard.split, 0) + shard.num_samples
        return _describe(temporary, counts, about)


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
    names, counts = np.unique(samples["split"].to_numpy(zero_copy_only=False).astype(str), return_counts=True)
    splits = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
    with _replacing(folder) as temporary:
        np.save(temporary / "images.npy", images)
        pq.write_table(samples, temporary / SAMPLES_FILE)
        return _describe(temporary, splits, {"format": IMAGE_FORMAT, "image_shape": images.shape[1:]})


@dataclass
class _OpenShard:
    """Files of a shard that still grows. ``counts`` says how many samples, captions, texts, tokens and bytes it has."""

    number: int
    kind: _Kind
    files: dict[str, ArrayFile]
    samples: Any  # pq.ParquetWriter
    counts: Counter[Item] = field(default_factory=Counter)

    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files.values())

    def append(self, samples: pa.Table, arrays: Mapping[str, np.ndarray]) -> None:
        for name, rows in arrays.items():
            counted = shard_array(name).counts
            self.files[name].append(rows if counted is None else rows + self.counts[counted])
        self.counts.update({shard_array(name).per: len(rows) for name, rows in arrays.items()})
        self.samples.write_table(samples)

    def close(self) -> ShardDescription:
        self.samples.close()
        for file in self.files.values():
            file.close()
        split, shape, resolution = self.kind
        return ShardDescription(
            split=split,
            num_samples=self.counts["sample"],
            num_texts=self.counts["text"],
            latent_shape=shape,
            resolution=resolution,
        )


class _Writer(ExitStack):
    """Shards under construction, one open for each kind of sample."""

    def __init__(self, folder: Path, temporary: Path, null_text: TextRows, shard_bytes: int) -> None:
        super().__init__()
        self.shards: list[ShardDescription] = []
        self._descriptions: dict[int, ShardDescription] = {}
        self._open: dict[_Kind, _OpenShard] = {}
        self._folder, self._temporary, self._shard_bytes = folder, temporary, shard_bytes
        (temporary / _SCRATCH).mkdir()
        null = null_text.arrays()
        self._of_texts = _row_shapes(null)
        self._of_samples: dict[str, tuple[int, ...]] | None = None  # as the first samples store
        for name, rows in null.items():
            whole = np.concatenate([[0], rows]) if shard_array(name).ends_of else rows
            np.save(temporary / array_file(name, None), whole)

    def add(self, split: str, piece: SamplePart) -> None:
        """Append samples of one split. Raises FoundryError when they store other things than those before."""
        texts = piece.texts.arrays()
        self._check_alike(texts, piece.more)
        arrays = {**piece.arrays(), **texts}
        kind = (split, piece.latents.shape[1:], piece.resolution)
        shard = self._open.get(kind) or self._start(kind, piece.samples, arrays)
        shard.append(piece.samples, arrays)
        if shard.num_bytes() >= self._shard_bytes:
            self._descriptions[shard.number] = self._open.pop(kind).close()

    def __exit__(self, *details: Any) -> bool | None:
        for shard in self._open.values():
            self._descriptions[shard.number] = shard.close()
        self._open = {}
        self.shards = [self._descriptions[number] for number in sorted(self._descriptions)]
        return super().__exit__(*details)

    def _start(self, kind: _Kind, samples: pa.Table, arrays: Mapping[str, np.ndarray]) -> _OpenShard:
        number = len(self._descriptions) + len(self._open)
        files = {}
        for name, rows in arrays.items():
            row, path = shard_array(name), self._temporary / array_file(name, number)
            files[name] = ArrayFile(path, row.dtype, rows.shape[1:])
            if row.ends_of:
                files[name].append(np.zeros(1, row.dtype))
        scratch = self._temporary / _SCRATCH / f"{number:05d}.parquet"
        shard = _OpenShard(number, kind, files, pq.ParquetWriter(scratch, samples.schema))
        self._open[kind] = shard
        return shard

    def _check_alike(self, texts: Mapping[str, np.ndarray], more: Mapping[str, np.ndarray]) -> None:
        if _row_shapes(texts) != self._of_texts:
            raise FoundryError(
                f"{self._folder}: texts must store the same as the empty text (words, and states of one width); "
                "encode all with one encoder"
            )
        self._of_samples = _row_shapes(more) if self._of_samples is None else self._of_samples
        if _row_shapes(more) != self._of_samples:
            raise FoundryError(
                f"{self._folder}: one part of the samples stores {_row_shapes(more)} beside latents and captions, those before "
                f"{self._of_samples}; give all of them the same"
            )


def _row_shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: rows.shape[1:] for name, rows in arrays.items()}


def _words(folder: Path, part: SamplePart) -> list[str]:
    """The words of each text, from the samples' captions that point to it."""
    captions = part.samples["captions"].to_pylist()
    words = [""] * len(part.texts)
    flat = [caption for row in captions for caption in row]
    if [len(row) for row in captions] != np.diff(part.caption_offsets).tolist():
        raise FoundryError(f"{folder}: captions and caption_offsets differ in number; give one text each")
    for index, caption in zip(part.caption_text_index.tolist(), flat, strict=True):
        words[index] = caption
    return words


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` at the end, and is removed when anything fails."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _join_samples(folder: Path, temporary: Path, num_shards: int) -> tuple[str, ...]:
    """One list of samples in order of rows, read and written a piece at a time; the names of its columns."""
    if num_shards == 0:
        raise FoundryError(f"{folder}: there are no samples; give at least one part")
    scratch = [pq.ParquetFile(temporary / _SCRATCH / f"{number:05d}.parquet") for number in range(num_shards)]
    schema = scratch[0].schema_arrow
    with pq.ParquetWriter(temporary / SAMPLES_FILE, schema) as out:
        for file in scratch:
            for batch in file.iter_batches():
                out.write_table(pa.Table.from_batches([batch]).cast(schema))
            file.close()
    shutil.rmtree(temporary / _SCRATCH)
    return tuple(schema.names)


def _describe(temporary: Path, splits: Mapping[str, int], about: Mapping[str, Any]) -> DatasetDescription:
    description = DatasetDescription(
        num_samples=sum(splits.values()),
        splits=dict(splits),
        files={path.name: sha256_file(path) for path in sorted(temporary.iterdir())},
        sizes={path.name: path.stat().st_size for path in sorted(temporary.iterdir())},
        **about,
    )
    text = json.dumps(description.model_dump(mode="json"), indent=1)
    write_text_atomic(temporary / DESCRIPTION_FILE, text)
    return description
