"""Every sample comes once an epoch, in an order that a position alone determines; buckets and stages are kept apart."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.feed.makers import SHAPES, names, part, parts, write
from training.errors import FoundryError
from training.feed.order import BucketOrder, Group, ShardOrder, ShuffledGroup, build_order
from training.randomness import SampleOrder
from training.recipes.dataset import DatasetSelection
from training.shards import TrainingShards
from training.shards.reading import ShardRange


def selection(**settings: Any) -> DatasetSelection:
    return DatasetSelection.model_validate(settings)


def draws(order: ShardOrder | SampleOrder, count: int, batch: int) -> list[tuple[list[int], list[int]]]:
    found = (order.draw(start, batch) for start in range(0, count, batch))
    return [(draw.epochs.tolist(), draw.rows.tolist()) for draw in found]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TrainingShards:
    return write(tmp_path_factory.mktemp("plain") / "data", parts(40))


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> TrainingShards:
    pieces = [
        part(names(24), SHAPES[0], 32),
        part(names(9, "wide"), SHAPES[1], 32),
        part(names(12), (4, 8, 8), 64),
    ]
    return write(tmp_path_factory.mktemp("buckets") / "data", pieces)


def test_one_shape_is_the_permutation_of_always(plain: TrainingShards) -> None:
    order = build_order(3, 8, selection(), plain)
    assert draws(order, 200, 8) == draws(SampleOrder(3, 40), 200, 8)


@pytest.mark.parametrize("kind", ["permutation", "blocks"])
@pytest.mark.parametrize("readers", [1, 2, 3])
def test_resume_gives_exactly_the_next_sample(plain: TrainingShards, kind: str, readers: int) -> None:
    wanted = selection(order=kind, buffer_shards=2)
    whole = [
        s for batch in draws(build_order(1, 12, wanted, plain), 180, 12) for s in zip(*batch, strict=True)
    ]
    share = 12 // readers
    for killed_after in (0, 12, 36, 96):
        # each reader has its part of every batch, of an order that is built anew
        orders = [build_order(1, 12, wanted, plain) for _ in range(readers)]
        read: list[tuple[int, int]] = []
        for start in range(killed_after, 180, 12):
            for reader, order in enumerate(orders):
                mine = order.draw(start, 12).part(reader * share, (reader + 1) * share)
                assert mine.first_image == start + reader * share
                read += zip(mine.epochs.tolist(), mine.rows.tolist(), strict=True)
        assert read == whole[killed_after:]


@pytest.mark.parametrize("kind", ["permutation", "blocks"])
def test_every_sample_once_an_epoch(plain: TrainingShards, kind: str) -> None:
    order = build_order(0, 8, selection(order=kind, buffer_shards=2), plain)
    seen = [s for batch in draws(order, 120, 8) for s in zip(*batch, strict=True)]
    assert Counter(seen) == Counter((epoch, row) for epoch in range(3) for row in range(40))
    assert seen[:40] != [(0, row) for _, row in seen[40:80]]  # another order in the next epoch


def test_blocks_need_few_shards_at_a_time(plain: TrainingShards) -> None:
    order = build_order(0, 8, selection(order="blocks", buffer_shards=2), plain)
    for start in range(0, 160, 8):
        now, then = order.window(start)
        assert len(now) <= 2
        first = plain.shards_of(order.draw(start, 1).rows)
        assert set(first) <= set(now)
        over = plain.shards_of(order.draw(start, 8).rows)
        assert set(over) <= {*now, *then}


def test_blocks_mix_within_the_buffer(plain: TrainingShards) -> None:
    order = build_order(0, 8, selection(order="blocks", buffer_shards=3), plain)
    shards = [plain.shards_of(np.array([row]))[0] for row in order.draw(0, 16).rows]
    assert len(set(shards)) > 1
    assert shards != sorted(shards)


def test_a_batch_holds_one_bucket(buckets: TrainingShards) -> None:
    order = build_order(5, 4, selection(), buckets)
    seen: Counter[int] = Counter()
    for start in range(0, 4 * 1024, 4):
        rows = order.draw(start, 4).rows
        assert len({buckets.description.shards[s].latent_shape for s in buckets.shards_of(rows)}) == 1
        seen.update(rows.tolist())
    counts = [seen[row] for row in range(45)]
    # in proportion to sizes: within a round every bucket has its share, so all samples come equally often
    assert max(counts) - min(counts) <= 2
    with pytest.raises(FoundryError, match="crosses a multiple of batch_size 4"):
        order.draw(2, 4)


def test_windows_of_buckets_hold_what_is_drawn(buckets: TrainingShards) -> None:
    order = build_order(5, 4, selection(order="blocks", buffer_shards=1), buckets)
    for start in range(0, 800, 4):
        now, then = order.window(start)
        assert len(now) == 3  # one buffer of one shard a bucket
        assert set(buckets.shards_of(order.draw(start, 4).rows)) <= {*now, *then}


def test_buckets_come_in_shuffled_order_and_resume(buckets: TrainingShards) -> None:
    for kind in ("permutation", "blocks"):
        wanted = selection(order=kind, buffer_shards=1)
        whole = draws(build_order(5, 4, wanted, buckets), 6000, 4)
        for start in (0, 4, 400, 4096, 5996):
            fresh = build_order(5, 4, wanted, buckets).draw(start, 4)
            assert (fresh.epochs.tolist(), fresh.rows.tolist()) == whole[start // 4]
        groups = [rows[0] // 24 for _, rows in whole[:60]]
        assert groups != sorted(groups)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=6), st.integers(1, 64), st.integers(0, 2**40))
def test_buckets_get_their_share_whatever_the_sizes(sizes: list[int], batch: int, seed: int) -> None:
    groups = []
    for index, size in enumerate(sizes):
        first = sum(sizes[:index])
        groups.append(
            ShuffledGroup(seed, Group(str(index), (ShardRange(index, first, size),), (first,)), str(index))
        )
    order = BucketOrder(seed, groups, batch, "order")
    counts = order._counts(2048)
    exact = 2048 * np.array(sizes) / sum(sizes)
    assert counts.sum() == 2048
    assert np.abs(counts - exact).max() < 2  # one a round
    slow = Counter(order._bucket_of(block)[0] for block in range(64))
    assert np.array_equal(order._counts(64), [slow[index] for index in range(len(sizes))])


def test_stages_follow_each_other(buckets: TrainingShards) -> None:
    stages = [{"images_from": 0, "resolution": 32}, {"images_from": 48, "resolution": 64}]
    order = build_order(5, 4, selection(stages=stages), buckets)
    for start in range(0, 96, 4):
        shards = buckets.shards_of(order.draw(start, 4).rows)
        assert {buckets.description.shards[s].resolution for s in shards} == {32 if start < 48 else 64}
        assert order.draw(start, 4).first_image == start
    assert 2 in order.window(44).then
    with pytest.raises(FoundryError, match="no samples in splits train at resolution 128"):
        build_order(5, 4, selection(stages=[{"images_from": 0, "resolution": 128}]), buckets)
