from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.captions.duplicates import candidate_pairs, jaccard, minhash, near_duplicates, shingle
from training.errors import FoundryError


def _shingles(caption: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", caption.lower())
    if not words:
        return set()
    return {tuple(words[start : start + 3]) for start in range(max(len(words) - 2, 1))}


def _similarity(first: str, second: str) -> float:
    one, other = _shingles(first), _shingles(second)
    return len(one & other) / len(one | other) if one | other else 0.0


_CAPTIONS = st.lists(
    st.lists(
        st.sampled_from(["a", "dog", "Dog", "on", "grass", "éclair", "\U0001f34e", ",", "42"]), max_size=9
    ).map(" ".join),
    min_size=2,
    max_size=6,
)


@settings(deadline=None, max_examples=80)
@given(_CAPTIONS)
def test_exact_similarity_equals_sets(captions: list[str]) -> None:
    shingles = shingle(pa.array(captions))
    assert [len(_shingles(caption)) > 0 for caption in captions] == (shingles.counts > 0).tolist()
    pairs = np.array([(i, j) for i in range(len(captions)) for j in range(i)])
    expected = [_similarity(captions[i], captions[j]) for i, j in pairs]
    assert jaccard(shingles, pairs) == pytest.approx(expected)


def _captions(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [
        " ".join(f"w{word}" for word in random.integers(0, 60, random.integers(8, 20))) for _ in range(count)
    ]


def _with_changed_words(caption: str, count: int) -> str:
    words = caption.split()
    return " ".join([*words[: len(words) - count], *(f"new{index}" for index in range(count))])


def test_signatures_estimate_similarity_without_bias() -> None:
    firsts = [" ".join(f"w{word}" for word in range(start, start + 30)) for start in range(0, 6000, 30)]
    seconds = [_with_changed_words(first, 8) for first in firsts]
    shingles = shingle(pa.array(firsts + seconds))
    signatures = minhash(shingles)
    agree = (signatures[:, :200] == signatures[:, 200:]).mean()
    true = jaccard(shingles, np.column_stack([np.arange(200), np.arange(200) + 200])).mean()
    assert agree == pytest.approx(true, abs=0.012)  # four standard errors of 200 x 112 comparisons


def test_planted_near_duplicates_are_found_and_no_other_pair_is() -> None:
    distinct = _captions(400)
    planted = [_with_changed_words(caption, 1) for caption in distinct]
    captions = [*distinct, *planted, *distinct[:50]]
    found = near_duplicates(pa.array(captions), 0.8)
    truly = [_similarity(a, b) >= 0.8 for a, b in zip(distinct, planted, strict=True)]
    together = (found.cluster[:400] == found.cluster[400:800]).tolist()
    assert sum(truly) > 200
    assert not any(joined and not true for joined, true in zip(together, truly, strict=True))
    assert sum(together) >= 0.9 * sum(truly)
    assert (found.cluster[:50] == found.cluster[800:]).all()  # equal texts always
    assert found.redundant_share == pytest.approx((sum(together) + 50) / 850)


def test_clusters_do_not_depend_on_the_order_of_captions() -> None:
    captions = [*_captions(60), *(_with_changed_words(caption, 1) for caption in _captions(60))]
    order = np.random.default_rng(1).permutation(len(captions))
    straight = near_duplicates(pa.array(captions)).cluster
    shuffled = near_duplicates(pa.array([captions[index] for index in order])).cluster
    assert (
        (straight[order][:, None] == straight[order][None]) == (shuffled[:, None] == shuffled[None])
    ).all()


def test_largest_clusters_come_first() -> None:
    found = near_duplicates(pa.array(["b c d", "a", "A!", "a", "x y", "b, c d"]))
    assert found.largest(5) == [(1, 3), (0, 2)]
    assert found.num_clusters == 3


def test_large_buckets_are_closed_through_their_first_member() -> None:
    captions = pa.array(
        [f"one two three four five{' six' * (index % 2)}." + "!" * index for index in range(200)]
    )
    found = near_duplicates(captions, 0.7)
    assert found.num_clusters == 1
    shingles = shingle(captions)
    assert len(candidate_pairs(minhash(shingles), shingles.counts > 0)) < 200 * 20


@pytest.mark.parametrize("captions", [[], [""], ["", "!?"]])
def test_nothing_said_is_no_near_duplicate_unless_equal(captions: list[str]) -> None:
    found = near_duplicates(pa.array(captions, pa.string()))
    assert found.num_clusters == len(captions)
    assert found.redundant_share == 0.0


def test_impossible_similarity_is_refused() -> None:
    with pytest.raises(FoundryError, match="min_similarity is 0"):
        near_duplicates(pa.array(["a"]), 0.0)
