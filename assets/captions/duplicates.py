"""Near-duplicate captions: MinHash over word shingles finds the candidates, exact Jaccard decides.

Captions of equal length are hashed together, so that the minimum runs over rows of one matrix instead of over short
ragged pieces: that is what makes numpy fast here. Results depend on the texts alone, not on their order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int, UInt32, UInt64
from numpy import ndarray

from training.errors import FoundryError

SHINGLE_WORDS = 3
NUM_BANDS, ROWS_PER_BAND = (
    14,
    8,
)  # 112 hashes: pairs of similarity 0.8 are found with 92 %, of 0.9 with 99.9 %
_ALL_PAIRS_UP_TO = 64  # larger buckets are compared with their first member alone
_HASHES_AT_ONCE = 1 << 15  # captions of one length hashed together: the matrix stays in the cache
_PAIRS_AT_ONCE = 1 << 18
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """Word shingles of captions: those of caption i are ``hashes[starts[i]:starts[i + 1]]``, repeats included.

    A caption of fewer words than a shingle has one shingle, an empty one none.
    """

    hashes: UInt64[ndarray, " s"]
    starts: Int[ndarray, " n_plus_1"]

    @property
    def counts(self) -> Int[ndarray, " n"]:
        """Shingles of each caption."""
        return np.diff(self.starts)


def shingle(captions: pa.Array, num_words: int = SHINGLE_WORDS) -> Shingles:
    """Hashed runs of ``num_words`` words, lower case; whatever is neither letter nor digit parts words."""
    plain = pc.utf8_trim_whitespace(
        pc.replace_substring_regex(pc.utf8_lower(captions), pattern=r"[^\pL\pN]+", replacement=" ")
    )
    words = pc.utf8_split_whitespace(plain)
    encoded = words.values.dictionary_encode()
    vocabulary = np.array([_word_hash(word) for word in encoded.dictionary.to_pylist()], np.uint64)
    offsets = words.offsets.to_numpy().astype(np.int64)
    hashes = vocabulary[encoded.indices.to_numpy()] if len(vocabulary) else np.zeros(0, np.uint64)
    # Splitting the empty caption gives one empty word, which is no word.
    empty = pc.equal(plain, "").to_numpy(zero_copy_only=False)
    return _runs(hashes, offsets[:-1], np.where(empty, 0, np.diff(offsets)), num_words)


def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _runs(
    words: UInt64[ndarray, " w"], starts: Int[ndarray, " n"], num_words: Int[ndarray, " n"], width: int
) -> Shingles:
    """Hash of each run of ``width`` words; shorter captions hash the words they have."""
    num_runs = np.where(num_words == 0, 0, np.maximum(num_words - width + 1, 1))
    run_starts = np.concatenate([[0], np.cumsum(num_runs)])
    place = np.arange(run_starts[-1]) - np.repeat(run_starts[:-1], num_runs) + np.repeat(starts, num_runs)
    left = np.repeat(np.minimum(num_words, width), num_runs)
    mixed = np.zeros(len(place), np.uint64)
    for step in range(width):
        word = words[np.minimum(place + step, max(len(words) - 1, 0))] if len(words) else mixed
        mixed = np.where(step < left, _mix(mixed ^ word), mixed)
    return Shingles(mixed, run_starts)


def _mix(values: UInt64[ndarray, " n"]) -> UInt64[ndarray, " n"]:
    """A bijection of 64 bits in which every bit depends on all others (after splitmix64)."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def minhash(
    shingles: Shingles, num_hashes: int = NUM_BANDS * ROWS_PER_BAND, seed: int = 0
) -> UInt32[ndarray, "hashes n"]:
    """MinHash signatures, one column a caption: equal entries estimate the Jaccard similarity of two sets.

    Captions without a shingle get the largest value throughout.
    """
    random = np.random.default_rng(seed)
    flips = random.integers(0, 2**32, num_hashes, dtype=np.uint32)
    factors = random.integers(0, 2**31, num_hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    keys = (shingles.hashes >> np.uint64(32)).astype(np.uint32)
    counts = shingles.counts
    signatures = np.full((num_hashes, len(counts)), np.uint32(2**32 - 1))
    by_length = np.argsort(counts, kind="stable")
    ends = np.searchsorted(counts[by_length], np.arange(1, counts.max(initial=0) + 2))
    for length in range(1, len(ends)):
        for low in range(ends[length - 1], ends[length], step := max(1, _HASHES_AT_ONCE // length)):
            rows = by_length[low : min(low + step, ends[length])]
            matrix_lb = keys[shingles.starts[rows][None] + np.arange(length)[:, None]]
            for index in range(num_hashes):
                signatures[index, rows] = ((matrix_lb ^ flips[index]) * factors[index]).min(axis=0)
    return signatures


@dataclass(frozen=True)
class Duplicates:
    """Clusters of near-duplicate captions.

    ``cluster`` of each caption, numbered by first appearance; ``num_clusters`` different captions remain when one of
    each cluster is kept; ``redundant_share`` of the captions say again what another says, in [0, 1].
    """

    cluster: Int[ndarray, " n"]
    num_clusters: int

    @property
    def redundant_share(self) -> float:
        """Share of captions that could go without losing a distinct one; 0 for no captions."""
        return 1.0 - self.num_clusters / len(self.cluster) if len(self.cluster) else 0.0

    def largest(self, count: int) -> list[tuple[int, int]]:
        """(first caption, size) of the largest clusters of two or more, largest first."""
        sizes = np.bincount(self.cluster, minlength=self.num_clusters)
        _, first = np.unique(self.cluster, return_index=True)
        order = np.argsort(-sizes, kind="stable")[:count]
        return [(int(first[index]), int(sizes[index])) for index in order if sizes[index] > 1]


def near_duplicates(captions: pa.Array, min_similarity: float = 0.8) -> Duplicates:
    """Group captions whose sets of word shingles have a Jaccard similarity of ``min_similarity`` or more.

    Groups are closed: where a is like b and b like c, all three are one. Candidates come from MinHash, so that a few
    pairs near the threshold are missed; none below it is ever taken.

    Raises:
        FoundryError: a similarity outside (0, 1].
    """
    encoded = captions.dictionary_encode()
    pairs = similar_pairs(encoded.dictionary.cast(pa.string()), min_similarity)
    return cluster(encoded.indices.to_numpy().astype(np.int64), pairs, len(encoded.dictionary))


def similar_pairs(texts: pa.Array, min_similarity: float) -> Int[ndarray, "pairs 2"]:
    """Pairs of distinct texts (lower index first) of the similarity wanted; see :func:`near_duplicates`."""
    if not 0.0 < min_similarity <= 1.0:
        raise FoundryError(f"min_similarity is {min_similarity}; allowed is above 0 to 1")
    shingles = shingle(texts)
    pairs = candidate_pairs(minhash(shingles), shingles.counts > 0)
    return pairs[jaccard(shingles, pairs) >= min_similarity]


def cluster(text: Int[ndarray, " n"], pairs: Int[ndarray, "pairs 2"], num_texts: int) -> Duplicates:
    """Clusters of captions, given the text of each and the similar pairs among all texts, used here or not."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    is_here = np.zeros(num_texts, bool)
    is_here[text] = True
    first, second = pairs[is_here[pairs].all(axis=1)].T
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(num_texts, num_texts))
    label = connected_components(links, directed=False)[1] if num_texts else np.zeros(0, np.int64)
    return Duplicates(*_by_first_appearance(label[text]))


def distinct(values: Int[ndarray, " n"]) -> Int[ndarray, " k"]:
    """Different values in ascending order, by sorting: several times as fast as numpy's own, which hashes."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def _by_first_appearance(label: Int[ndarray, " n"]) -> tuple[Int[ndarray, " n"], int]:
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse], len(first)


def candidate_pairs(
    signatures: UInt32[ndarray, "hashes n"], usable: ndarray, num_bands: int = NUM_BANDS
) -> Int[ndarray, "pairs 2"]:
    """Pairs (lower index first) of usable captions that agree in all hashes of at least one band, each once."""
    members = np.flatnonzero(usable)
    if len(members) < 2:
        return np.zeros((0, 2), np.int64)
    size = signatures.shape[1]
    found = []
    for band in np.split(signatures, num_bands):
        key = np.zeros(len(members), np.uint64)
        for row in band:
            key = (key + row[members]) * _GOLDEN  # equal bands have equal keys; jaccard sorts out the others
        order = np.argsort(key, kind="stable")
        found.append(_pairs_of_runs(members[order], key[order], size))
    unique = distinct(np.concatenate(found))
    return np.stack([unique // size, unique % size], axis=1)


def _pairs_of_runs(
    members: Int[ndarray, " n"], keys: UInt64[ndarray, " n"], size: int
) -> Int[ndarray, " pairs"]:
    """Pairs within each run of equal keys, as lower * size + higher."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lengths = np.diff(np.append(starts, len(keys)))
    # After a stable sort the members of a run ascend, so that lower comes first.
    first = np.repeat(members[starts], lengths)
    with_first = np.repeat(lengths > _ALL_PAIRS_UP_TO, lengths) & (first != members)
    pairs = [first[with_first] * size + members[with_first]]
    room = np.repeat(np.where(lengths <= _ALL_PAIRS_UP_TO, lengths, 0), lengths)
    position = np.arange(len(keys)) - np.repeat(starts, lengths)
    for gap in range(1, int(room.max(initial=0))):
        low = np.flatnonzero(position + gap < room)
        pairs.append(members[low] * size + members[low + gap])
    return np.concatenate(pairs)


def jaccard(shingles: Shingles, pairs: Int[ndarray, "pairs 2"]) -> Float[ndarray, " pairs"]:
    """Exact Jaccard similarity of the shingle sets of each pair; 0 where both are empty."""
    parts = [
        _jaccard(shingles, pairs[low : low + _PAIRS_AT_ONCE]) for low in range(0, len(pairs), _PAIRS_AT_ONCE)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _jaccard(shingles: Shingles, pairs: Int[ndarray, "pairs 2"]) -> Float[ndarray, " pairs"]:
    """Sort (pair, shingle, side): what stands on both sides of a pair is shared."""
    counts = shingles.counts[pairs]
    lengths = counts.reshape(-1)
    ends = np.cumsum(lengths)
    place = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    hashes = shingles.hashes[np.repeat(shingles.starts[pairs.reshape(-1)], lengths) + place]
    side = np.repeat(np.tile([0, 1], len(pairs)), lengths)
    pair = np.repeat(np.arange(len(pairs)), counts.sum(axis=1))
    order = np.lexsort((side, hashes, pair))
    pair, hashes, side = pair[order], hashes[order], side[order]
    same_set = np.zeros(len(pair), bool)
    same_set[1:] = (pair[1:] == pair[:-1]) & (hashes[1:] == hashes[:-1])
    is_new = ~same_set  # first of a (pair, shingle)
    is_shared = same_set.copy()
    is_shared[1:] &= side[1:] != side[:-1]
    union = np.bincount(pair[is_new], minlength=len(pairs))
    shared = np.bincount(pair[is_shared], minlength=len(pairs))
    return np.divide(shared, union, out=np.zeros(len(pairs)), where=union > 0)
