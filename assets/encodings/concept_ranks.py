"""What samples are about, told by the nouns of their captions: no truth table is asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from assets.encodings.text import text_id


def concept_ranks(samples: pa.Table, captions: list[list[str]], nouns: pa.Table) -> list[int]:
    """The place of the rarest concept that a sample's captions name, -1 where they name none.

    Concepts are the nouns of curated training samples' alt-texts, the commonest first (by the number of samples that
    name them, then by name). Nouns that no such alt-text says are no concepts: generated captions also speak of
    pictures and backgrounds. ``captions`` holds the alt-text first; ``nouns`` has text_id and nouns.
    """
    said = dict(zip(nouns["text_id"].to_pylist(), nouns["nouns"].to_pylist(), strict=True))
    of_sample = [[set(said.get(text_id(text)) or ()) for text in texts] for texts in captions]
    rank = {noun: place for place, noun in enumerate(_commonest(samples, of_sample))}
    named = [{rank[noun] for noun in set().union(*texts) if noun in rank} for texts in of_sample]
    return [max(places, default=-1) for places in named]


def _commonest(samples: pa.Table, nouns_of_sample: list[list[set[str]]]) -> list[str]:
    in_training = np.array(samples["split"].to_pylist()) == "train"
    counted = in_training & samples["curated"].to_numpy(zero_copy_only=False).astype(bool)
    counts = Counter(noun for place in np.flatnonzero(counted) for noun in nouns_of_sample[place][0])
    return sorted(counts, key=lambda noun: (-counts[noun], noun))
