"""Caption statistics at scale: near-duplicates and the paper's table over a million captions, CPU seconds.

Floor of near-duplicates: hashing alone. Peers, as measured elsewhere on one core: datasketch 4.2k and datatrove 15.6k
captions a second for signatures of 112 hashes, rensa (Rust) 167k.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import pyarrow as pa
import pytest

from assets.captions.duplicates import minhash, near_duplicates, shingle
from assets.captions.statistics import caption_statistics
from assets.encodings.text import text_id

pytestmark = pytest.mark.benchmark
NUM_IMAGES, PER_IMAGE = 250_000, 3


def _captions(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    words = np.array([f"word{index}" for index in range(5000)])
    chosen = words[np.minimum(random.zipf(1.3, (count, 12)), 4999)]
    return [" ".join(row) for row in chosen.tolist()]


def test_near_duplicates_per_second() -> None:
    distinct = _captions(100_000, 0)
    captions = pa.array([*distinct, *(f"{caption} more" for caption in distinct[:5000])])
    start = time.process_time()
    shingles = shingle(captions)
    cut = time.process_time()
    minhash(shingles)
    hashed = time.process_time()
    found = near_duplicates(captions)
    end = time.process_time()
    rates = [len(captions) / seconds for seconds in (cut - start, hashed - cut, hashed - start, end - hashed)]
    print(
        f"\ncaptions/CPU-s: shingles {rates[0]:,.0f}, signatures {rates[1]:,.0f}, both {rates[2]:,.0f}, ",
        end="",
    )
    print(f"clusters with exact verification {rates[3]:,.0f}")
    assert found.redundant_share > 0.045
    assert rates[2] > 6 * 15_600


def test_statistics_of_a_million_captions() -> None:
    sample_ids = [f"{index:08d}" for index in range(NUM_IMAGES)]
    alt_texts, captions = _captions(NUM_IMAGES, 1), _captions(NUM_IMAGES * PER_IMAGE, 2)
    recaptions = pa.table(
        {"sample_id": sample_ids * PER_IMAGE, "caption": captions, "keep": [True] * len(captions)}
    )
    texts = list(dict.fromkeys(alt_texts + captions))
    nouns = pa.table(
        {
            "text_id": [text_id(text) for text in texts],
            "nouns": pa.array([text.split()[:8] for text in texts]),
            "num_words": pa.array([12] * len(texts), pa.int32()),
        }
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    table = caption_statistics(pa.table({"sample_id": sample_ids, "alt_text": alt_texts}), recaptions, nouns)
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"\n{len(texts):,} captions, three sets: {seconds:.1f} CPU-s, peak memory grew by {grown:,.0f} MiB")
    assert table["num_captions"].to_pylist()[2] == NUM_IMAGES * (PER_IMAGE + 1)
