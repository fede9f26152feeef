"""Words by frequency and length, for prompts that ask for text.

The list is that of a packaged tokenizer: BERT's uncased vocabulary, which MiniLM has too, stands in order of frequency in
English Wikipedia and books, whole words before their pieces. No list of ours, and none to be downloaded.
"""

from __future__ import annotations

import json
from functools import cache

import numpy as np

from training.errors import FoundryError
from training.packaged_models import packaged_folder

BUCKETS = ((0, 1_000), (1_000, 5_000), (5_000, 20_000))
"""Ranks of frequent, less frequent and rare words."""


@cache
def ranked_words() -> tuple[str, ...]:
    """Words of letters a to z, two or more, the most frequent first."""
    content = json.loads((packaged_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    numbered = sorted(content["model"]["vocab"].items(), key=lambda entry: entry[1])
    return tuple(
        word for word, _ in numbered if len(word) > 1 and word.isascii() and word.isalpha() and word.islower()
    )


def words_between(
    first_rank: int,
    last_rank: int,
    lengths: tuple[int, int] = (3, 5),
    *,
    count: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Words of a range of ranks and of fewest and most letters; ``count`` of them drawn by ``seed``, None for all.

    Raises FoundryError where there are not so many.
    """
    found = [word for word in ranked_words()[first_rank:last_rank] if lengths[0] <= len(word) <= lengths[1]]
    if count is None:
        return found
    if count > len(found):
        raise FoundryError(
            f"words: {count} are wanted of ranks {first_rank} to {last_rank} with {lengths[0]} to {lengths[1]} letters, and "
            f"{len(found)} there are; ask for fewer, or widen either range"
        )
    drawn = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[number] for number in drawn]


def words_for_pairs(count: int, lengths: tuple[int, int] = (3, 5), seed: int = 0) -> list[str]:
    """Frequent words in capitals, as signs have them."""
    return [word.upper() for word in words_between(*BUCKETS[0], lengths, count=count, seed=seed)]
