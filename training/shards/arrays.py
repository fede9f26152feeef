"""What a shard stores: one row an array. Parts, checks, writing, reading and staging follow the rows.

A new array that training reads of every sample is a row here, of a part of its own name; whoever writes the dataset
hands it over in :attr:`training.shards.parts.SamplePart.more`, and readers ask for it by
:meth:`training.shards.reading.TrainingShards.of_samples`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from training.errors import FoundryError
from training.recipes.validation import nearest

Item = Literal["sample", "caption", "text", "token", "byte"]


@dataclass(frozen=True)
class ShardArray:
    """One array of a shard, with a row ``per`` item. All datasets store the part ``samples``; other parts, some do.

    Numbers in an array count from the shard's first item, so that those of a later piece are shifted when it is
    appended: ``ends_of`` is the item of which row ``i`` holds the end of ``i``'s run (a 0 stands before the first row),
    ``points_at`` the item whose numbers it holds.
    """

    name: str
    dtype: np.dtype
    per: Item
    part: str = "samples"
    ends_of: Item | None = None
    points_at: Item | None = None

    @property
    def counts(self) -> Item | None:
        """What its numbers count, if they do."""
        return self.ends_of or self.points_at


_HALF, _NUMBER, _BYTE = np.dtype(np.float16), np.dtype(np.int64), np.dtype(np.uint8)

SHARD_ARRAYS: Mapping[str, ShardArray] = MappingProxyType(
    {
        row.name: row
        for row in (
            ShardArray("latents", _HALF, "sample"),  # [samples, channels, height, width]
            ShardArray("caption_offsets", _NUMBER, "sample", ends_of="caption"),
            ShardArray("caption_text_index", _NUMBER, "caption", points_at="text"),
            ShardArray("sample_keys", _NUMBER, "sample"),
            ShardArray("text_states", _HALF, "token", "states"),  # [tokens, dim]
            ShardArray("text_offsets", _NUMBER, "text", "states", ends_of="token"),
            ShardArray("pooled", _HALF, "text", "states"),  # [texts, pooled_dim]
            ShardArray("text_bytes", _BYTE, "byte", "words"),
            ShardArray("text_starts", _NUMBER, "text", "words", ends_of="byte"),
        )
    }
)


def shard_array(name: str) -> ShardArray:
    """The row of an array. Raises FoundryError for a name that is not registered."""
    if name not in SHARD_ARRAYS:
        raise FoundryError(f"shards: there is no array '{name}'; {nearest(name, list(SHARD_ARRAYS))}")
    return SHARD_ARRAYS[name]


def arrays_of(*parts: str) -> tuple[str, ...]:
    """Names of the arrays of some parts of a dataset, in the order of the rows."""
    return tuple(row.name for row in SHARD_ARRAYS.values() if row.part in parts)


def array_file(name: str, shard: int | None) -> str:
    """File name of an array of a shard; None stands for the empty text, which all shards share."""
    return f"{name}{_suffix(shard)}"


def array_in(file: str, shard: int | None) -> str | None:
    """The array that a file holds, where it is one of this shard's."""
    suffix = _suffix(shard)
    return file.removesuffix(suffix) if file.endswith(suffix) else None


def _suffix(shard: int | None) -> str:
    return "-null.npy" if shard is None else f"-{shard:05d}.npy"
