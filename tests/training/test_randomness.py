"""Draws depend on (seed, purpose, epoch, row) alone, and captions come in the asked proportions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from training.randomness import Draw, SampleOrder, caption_index, normal, permutation, sample_keys, uniform


def test_each_epoch_is_a_permutation_and_differs() -> None:
    order = SampleOrder(seed=3, num_samples=7)
    seen = order.draw(0, 21)
    for epoch in range(3):
        rows = seen.rows[seen.epochs == epoch]
        assert sorted(rows) == list(range(7))
        assert list(rows) == list(permutation(3, epoch, 7))
    assert list(seen.rows[:7]) != list(seen.rows[7:14])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_draws_do_not_depend_on_how_batches_are_cut(seed: int, cuts: list[int]) -> None:
    whole = SampleOrder(seed, 5).draw(0, sum(cuts))
    order, start = SampleOrder(seed, 5), 0
    for count in cuts:
        part = order.draw(start, count)
        assert (part.rows == whole.rows[start : start + count]).all()
        assert (part.uniform("level") == whole.uniform("level")[start : start + count]).all()
        assert (part.normal("noise", (2, 3)) == whole.normal("noise", (2, 3))[start : start + count]).all()
        start += count


def test_streams_differ_by_seed_purpose_epoch_and_row() -> None:
    base = (1, "noise", 0, 0)
    others = [(2, "noise", 0, 0), (1, "level", 0, 0), (1, "noise", 1, 0), (1, "noise", 0, 1)]
    for other in others:
        assert not np.array_equal(normal(*base, (4,)), normal(*other, (4,)))
        seed, purpose, epoch, row = other
        assert uniform(1, "noise", 0, np.array([0])) != uniform(seed, purpose, epoch, np.array([row]))


def test_numbers_have_the_right_distribution() -> None:
    rows = np.arange(20_000)
    assert stats.kstest(uniform(0, "level", 0, rows), "uniform").pvalue > 1e-3
    noise = Draw(0, np.zeros(40, np.int64), np.arange(40)).normal("noise", (500,))
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    lag = np.corrcoef(uniform(0, "level", 0, rows), uniform(0, "level", 0, rows + 1))[0, 1]
    assert abs(lag) < 0.03


def slow_caption_index(draw: float, num_captions: int, original: float, most: int) -> int:
    """The rule spelled out for one sample."""
    generated = min(num_captions - 1, most)
    if generated < 1 or draw < original:
        return 0
    return 1 + int((draw - original) / (1 - original) * generated)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**62),
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.floats(0, 1),
    st.integers(0, 7),
)
def test_caption_index_equals_the_rule(seed: int, counts: list[int], original: float, most: int) -> None:
    rows = np.arange(len(counts))
    picked = caption_index(seed, 2, rows, np.array(counts), original, most)
    draws = uniform(seed, "caption", 2, rows)
    slow = [slow_caption_index(draw, n, original, most) for draw, n in zip(draws, counts, strict=True)]
    assert list(picked) == slow
    assert (picked < np.array(counts)).all()


@pytest.mark.parametrize(
    ("num_captions", "expected"),
    [(6, [0.5] + [0.1] * 5), (9, [0.5] + [0.1] * 5), (3, [0.5, 0.25, 0.25]), (1, [1.0])],
)
def test_captions_come_in_the_papers_proportions(num_captions: int, expected: list[float]) -> None:
    rows = np.arange(20_000)
    picked = caption_index(7, 0, rows, np.full(len(rows), num_captions), 0.5, 5)
    counts = np.bincount(picked)
    assert len(counts) == len(expected)
    if len(expected) > 1:
        assert stats.chisquare(counts, np.array(expected) * len(rows)).pvalue > 1e-3


def test_drawing_a_batch_equals_drawing_rows() -> None:
    draw = Draw(4, np.array([0, 1, 0]), np.array([3, 3, 8]))
    slow = [normal(4, "noise", epoch, row, (2, 5)) for epoch, row in ((0, 3), (1, 3), (0, 8))]
    assert np.array_equal(draw.normal("noise", (2, 5)), np.stack(slow))


def test_a_draw_depends_on_the_sample_not_on_its_place() -> None:
    names = [f"sample {number}" for number in range(200)]
    before = caption_index(3, 1, sample_keys(names), np.full(200, 6), 0.5, 5)
    more = ["another", *names[:100], "one more", *names[100:]]
    after = caption_index(3, 1, sample_keys(more), np.full(202, 6), 0.5, 5)
    assert np.array_equal(np.delete(after, [0, 101]), before)
    assert len(set(sample_keys(names).tolist())) == 200


def test_captions_of_a_batch_equal_those_of_its_samples() -> None:
    keys = sample_keys([f"sample {number}" for number in range(40)])
    batch = SampleOrder(5, 40).draw(30, 25)  # straddles two epochs
    drawn = batch.captions(keys[batch.rows], np.full(25, 4), 0.5, 5)
    alone = [
        caption_index(5, int(epoch), keys[row : row + 1], np.array([4]), 0.5, 5)[0]
        for epoch, row in zip(batch.epochs, batch.rows, strict=True)
    ]
    assert drawn.tolist() == alone
