"""Who is who: digests of images and samples, the split of a sample, the group of a shard."""

from __future__ import annotations

import hashlib

from assets.graph.schemas import SPLITS
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError

_HELD_OUT_WORDS = frozenset({"test", "validation", "valid", "val", "eval", "dev"})


def image_id_of(image: bytes) -> str:
    """Identity of an image: hex sha256 of its encoded bytes."""
    return sha256_bytes(image)


def sample_id_of(image_id: str, source: str, key: str) -> str:
    """Identity of a sample: one image with two alt-texts (two keys) is two samples."""
    return sha256_bytes(canonical_json([image_id, source, key]).encode())


def split_of(image_id: str, declared: str | None) -> str:
    """The split of a sample.

    A declared split of ours stands; the usual words for test data mean ``held_out_images``. Anything else is decided
    by the image's digest (80 % train, 10 % judge, 10 % held_out_images), so equal images share their split.
    """
    if declared in SPLITS:
        return str(declared)
    if declared in _HELD_OUT_WORDS:
        return "held_out_images"
    tenth = int(image_id[:8], 16) % 10
    return "train" if tenth < 8 else ("judge" if tenth == 8 else "held_out_images")


def shard_group(shard_name: str, num_groups: int) -> int:
    """Group of a shard in [0, ``num_groups``): the hash of its name, so a new shard moves no other.

    Raises FoundryError when ``num_groups`` is outside 1 .. 64.
    """
    if not 1 <= num_groups <= 64:
        raise FoundryError(f"num_groups is {num_groups}; allowed are 1 to 64 groups of shards.")
    return int.from_bytes(hashlib.sha256(shard_name.encode()).digest()[:8], "big") % num_groups
