"""Readers of training datasets: batches are gathered from memory-mapped shards, without worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Float16, Int, Int64, Shaped

from training.errors import FoundryError
from training.shards.description import (
    LATENT_FORMAT,
    SAMPLES_FILE,
    DatasetDescription,
    read_description,
)
from training.shards.gathering import MappedArrays, by_shard, gather
from training.shards.sample_marks import CONCEPT_RANK, CURATED, is_part

NULL_TEXT = 0


@dataclass(frozen=True)
class TextBatch:
    """Token states of a batch of texts, zero where ``mask`` is false, and their pooled vectors where asked for."""

    states: Float[np.ndarray, "b tokens dim"]
    mask: Bool[np.ndarray, "b tokens"]
    pooled: Float[np.ndarray, "b pooled_dim"] | None = None


@dataclass(frozen=True)
class ShardRange:
    """Rows of one shard: ``num_rows`` of them from ``first_row`` on, or those of ``chosen`` where not all take part."""

    shard: int
    first_row: int
    num_rows: int
    chosen: Int64[np.ndarray, " num_rows"] | None = None

    @property
    def rows(self) -> Int64[np.ndarray, " num_rows"]:
        """The rows, ascending."""
        if self.chosen is not None:
            return self.chosen
        return np.arange(self.first_row, self.first_row + self.num_rows, dtype=np.int64)

    def head(self, count: int) -> ShardRange:
        """The first so many rows."""
        chosen = None if self.chosen is None else self.chosen[:count]
        return ShardRange(self.shard, self.first_row, min(count, self.num_rows), chosen)


class TrainingShards:
    """Reader of latents with captions and texts."""

    def __init__(self, folder: Path, description: DatasetDescription) -> None:
        self.folder = folder
        self.description = description
        self.arrays = MappedArrays(folder)
        self._rows = description.row_starts()
        self._texts = description.text_starts()

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> TrainingShards:
        """Open a dataset folder; ``verify`` hashes every file first.

        Raises FoundryError when it is missing, of another format or damaged.
        """
        folder = Path(folder)
        return cls(folder, read_description(folder, LATENT_FORMAT, verify=verify))

    @cached_property
    def samples(self) -> pa.Table:
        """The list of samples in order of rows, for people; training does without."""
        return pq.read_table(self.folder / SAMPLES_FILE)

    def ranges(
        self,
        splits: Sequence[str],
        max_samples: int | None = None,
        *,
        resolution: int | None = None,
        raw: bool = False,
        max_concepts: int | None = None,
    ) -> list[ShardRange]:
        """Which rows of which shards lie in ``splits`` and in the part asked for (:mod:`training.shards.sample_marks`), ascending.

        ``resolution`` keeps shards of that resolution. Of ``max_samples``, every latent shape gets its share, its first
        rows. Raises FoundryError when there are none.
        """
        about = self.description
        indices = [
            index
            for index, shard in enumerate(about.shards)
            if shard.split in splits and resolution in (None, shard.resolution) and shard.num_samples
        ]
        whole = [
            ShardRange(index, int(self._rows[index]), about.shards[index].num_samples) for index in indices
        ]
        found = [part for part in self._parts_of(whole, raw, max_concepts) if part.num_rows]
        if not found:
            concepts = "" if max_concepts is None else f" about the {max_concepts} commonest nouns"
            size = "" if resolution is None else f" at resolution {resolution}"
            raise FoundryError(
                f"{self.folder}: no samples in splits {', '.join(splits)}{concepts}{size}; it has {about.splits}, "
                f"resolutions {', '.join(map(str, about.resolutions))}"
            )
        return found if max_samples is None else self._cut(found, max_samples)

    def select(
        self,
        splits: Sequence[str],
        max_samples: int | None = None,
        *,
        raw: bool = False,
        max_concepts: int | None = None,
    ) -> Int64[np.ndarray, " n"]:
        """Row numbers of what :meth:`ranges` finds, ascending. Raises FoundryError when there are none."""
        return rows_of(self.ranges(splits, max_samples, raw=raw, max_concepts=max_concepts))

    def _parts_of(self, whole: list[ShardRange], raw: bool, max_concepts: int | None) -> list[ShardRange]:
        """The same ranges without samples that do not take part; the list of samples is read only where it matters."""
        if max_concepts is None and (raw or CURATED not in self.description.columns):
            return whole
        marks = [name for name in (CURATED, CONCEPT_RANK) if name in self.description.columns]
        samples = pq.read_table(self.folder / SAMPLES_FILE, columns=marks or ["split"])
        takes_part = is_part(samples, self.folder, raw=raw, max_concepts=max_concepts)
        parts = []
        for part in whole:
            rows = part.rows[takes_part[part.rows]]
            all_of_it = len(rows) == part.num_rows
            parts.append(part if all_of_it else ShardRange(part.shard, part.first_row, len(rows), rows))
        return parts

    def sample_keys(self, rows: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """:func:`training.randomness.sample_keys` of some samples."""
        return self.of_samples("sample_keys", rows, np.empty(len(rows), np.int64))

    def of_samples(
        self, name: str, rows: Int[np.ndarray, " n"], out: Shaped[np.ndarray, "n ..."] | None = None
    ) -> Shaped[np.ndarray, "n ..."]:
        """Rows of an array that has one per sample, into ``out`` where given; at least one row, all of one shape.

        Raises FoundryError when the dataset was written without the array.
        """
        if out is None:
            first = self.arrays.get(name, self.shards_of(rows[:1])[0])
            out = np.empty((len(rows), *first.shape[1:]), first.dtype)
        return gather(self._rows, rows, self._of(name), out)

    def shards_of(self, rows: Int[np.ndarray, " b"]) -> list[int]:
        """Numbers of the shards that some rows lie in, ascending."""
        return np.unique(np.searchsorted(self._rows, rows, side="right") - 1).tolist()

    def latents(
        self, rows: Int[np.ndarray, " b"], out: Float16[np.ndarray, "b c h w"] | None = None
    ) -> Float16[np.ndarray, "b c h w"]:
        """Latents as they are stored, into ``out`` where given. Raises FoundryError for rows of several shapes."""
        if out is None:
            out = np.empty((len(rows), *self._shape_of(rows)), np.float16)
        return self.of_samples("latents", rows, out)

    def gather_latents(self, rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b c h w"]:
        """Latents as float32, scaled as the backbone sees them. Raises FoundryError for rows of several shapes."""
        return self.latents(rows).astype(np.float32)

    def num_captions(self, rows: Int[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """How many captions each sample has, the alt-text included."""
        counts = np.empty(len(rows), np.int64)
        for shard, chosen, local in by_shard(self._rows, rows):
            offsets = self.arrays.get("caption_offsets", shard)
            counts[chosen] = offsets[local + 1] - offsets[local]
        return counts

    def text_of(
        self, rows: Int[np.ndarray, " b"], captions: Int[np.ndarray, " b"]
    ) -> Int64[np.ndarray, " b"]:
        """Text numbers of the chosen captions."""
        texts = np.empty(len(rows), np.int64)
        for shard, chosen, local in by_shard(self._rows, rows):
            places = self.arrays.get("caption_offsets", shard)[local] + captions[chosen]
            texts[chosen] = self.arrays.get("caption_text_index", shard)[places] + self._texts[shard]
        return texts

    def null_text(self, count: int) -> Int64[np.ndarray, " b"]:
        """The empty text, ``count`` times."""
        return np.full(count, NULL_TEXT, np.int64)

    def text_states(
        self,
        texts: Int[np.ndarray, " b"],
        pad_to: int | None = None,
        *,
        pooled: bool = False,
        out: Float16[np.ndarray, most] | None = None,
    ) -> TextBatch:
        """Stored states as float16, padded with zeros to the longest text or to ``pad_to`` tokens.

        They lie in ``out`` where it is given and large enough: memory that is used again costs less than new memory.
        """
        spans = self._state_spans(texts)
        lengths = [stop - start for _, start, stop in spans]
        width, dim = pad_to or max(lengths), self.description.text_dim
        size = len(spans) * width * dim
        flat = out[:size] if out is not None and len(out) >= size else np.empty(size, np.float16)
        bytes_out, row_bytes = flat.view(np.uint8).data, width * dim * 2
        for row, (source, start, stop) in enumerate(spans):
            begin = row * row_bytes
            end = begin + (stop - start) * dim * 2
            bytes_out[begin:end] = source[start * dim * 2 : stop * dim * 2]
            bytes_out[end : begin + row_bytes] = bytes(begin + row_bytes - end)
        mask = np.arange(width) < np.array(lengths)[:, None]
        states = flat.reshape(len(spans), width, dim)
        return TextBatch(states, mask, self.pooled(texts) if pooled else None)

    def gather_text(self, texts: Int[np.ndarray, " b"], pad_to: int | None = None) -> TextBatch:
        """Token states of texts as float32, padded with zeros to the longest of them or to ``pad_to`` tokens."""
        batch = self.text_states(texts, pad_to)
        return TextBatch(batch.states.astype(np.float32), batch.mask)

    def words(self, texts: Int[np.ndarray, " b"]) -> list[str]:
        """The texts themselves. Raises FoundryError when the dataset was written without them."""
        found = []
        for text in texts.tolist():
            shard, local = self._text_place(text)
            starts = self.arrays.get("text_starts", shard)
            found.append(bytes(self.arrays.get("text_bytes", shard)[starts[local] : starts[local + 1]]))
        return [word.decode("utf-8", "surrogatepass") for word in found]

    def pooled(self, texts: Int[np.ndarray, " b"]) -> Float16[np.ndarray, "b pooled_dim"]:
        """Stored pooled vectors of texts."""
        places = [self._text_place(text) for text in texts.tolist()]
        return np.stack([self.arrays.get("pooled", shard)[local] for shard, local in places])

    def _state_spans(self, texts: Int[np.ndarray, " b"]) -> list[tuple[memoryview, int, int]]:
        """For each text the bytes that hold its shard's states, and from which token to which."""
        null = self.arrays.get("text_states", None)
        spans = [(_bytes_of(null), 0, len(null))] * len(texts)
        real = np.flatnonzero(texts != NULL_TEXT)
        for shard, chosen, local in by_shard(self._texts, texts[real]):
            offsets, array = self.arrays.get("text_offsets", shard), self.arrays.get("text_states", shard)
            ends = zip(offsets[local].tolist(), offsets[local + 1].tolist(), strict=True)
            source = _bytes_of(array)
            for row, (start, stop) in zip(real[chosen].tolist(), ends, strict=True):
                spans[row] = source, start, stop
        return spans

    def _text_place(self, text: int) -> tuple[int | None, int]:
        if text == NULL_TEXT:
            return None, 0
        shard = int(np.searchsorted(self._texts, text, side="right")) - 1
        return shard, text - int(self._texts[shard])

    def _of(self, name: str) -> Callable[[int], np.ndarray]:
        return lambda shard: self.arrays.get(name, shard)

    def _shape_of(self, rows: Int[np.ndarray, " b"]) -> tuple[int, int, int]:
        shapes = {self.description.shards[shard].latent_shape for shard in self.shards_of(rows)}
        if len(shapes) != 1:
            raise FoundryError(
                f"{self.folder}: a batch holds latents of one shape, found rows of {sorted(shapes)}; draw batches "
                "with the dataset's own order"
            )
        return shapes.pop()

    def _cut(self, whole: list[ShardRange], max_samples: int) -> list[ShardRange]:
        """The first rows of each shape and resolution, in proportion to their numbers, ``max_samples`` in all."""
        kinds = [self._kind(part) for part in whole]
        totals = {
            kind: sum(p.num_rows for p, k in zip(whole, kinds, strict=True) if k == kind) for kind in kinds
        }
        left = dict(zip(totals, shares(list(totals.values()), max_samples), strict=True))
        cut = []
        for part, kind in zip(whole, kinds, strict=True):
            taken = min(part.num_rows, left[kind])
            left[kind] -= taken
            cut.append(part.head(taken))
        return [part for part in cut if part.num_rows]

    def _kind(self, part: ShardRange) -> tuple[tuple[int, int, int], int | None]:
        shard = self.description.shards[part.shard]
        return shard.latent_shape, shard.resolution


def _bytes_of(array: np.ndarray) -> memoryview:
    """An array's bytes; slices of it are copied in half the time of slices of an array."""
    return array.reshape(-1).view(np.uint8).data


def rows_of(ranges: Sequence[ShardRange]) -> Int64[np.ndarray, " n"]:
    """All rows of some ranges, in their order."""
    return np.concatenate([part.rows for part in ranges])


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """``total`` (at most the sum) dealt out in proportion to ``sizes``: whole shares, then the largest remainders."""
    total = min(total, sum(sizes))
    exact = [total * size / sum(sizes) for size in sizes]
    dealt = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda index: (dealt[index] - exact[index], index))
    for index in by_remainder[: total - sum(dealt)]:
        dealt[index] += 1
    return dealt
