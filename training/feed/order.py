"""Which sample comes when: shuffled, in buckets of one latent shape, in stages of one resolution.

Every order is a function of (seed, image number) alone, so that a resumed run meets exactly the next sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from training.errors import FoundryError
from training.randomness import Draw, permutation, stream_key
from training.recipes.dataset import DatasetSelection
from training.shards import TrainingShards
from training.shards.reading import ShardRange

BLOCKS_PER_ROUND = 1024  # batches that are dealt out to buckets at a time


class Window(NamedTuple):
    """Shards that a position needs, and those that are needed next."""

    now: tuple[int, ...]
    then: tuple[int, ...]


@runtime_checkable
class Order(Protocol):
    """The endless sequence of samples."""

    def draw(self, images_seen: int, count: int) -> Draw:
        """Rows (positions in the selection) and epochs of the next ``count`` images after ``images_seen``."""
        ...


@runtime_checkable
class ShardOrder(Order, Protocol):
    """An order that also says which shards it needs when."""

    def window(self, images_seen: int) -> Window:
        """Shards of the samples at and after ``images_seen``."""
        ...


@dataclass(frozen=True)
class Group:
    """Samples that may share a batch. ``firsts[i]`` is the position in the selection of the first row of range ``i``."""

    name: str
    ranges: tuple[ShardRange, ...]
    firsts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(part.num_rows for part in self.ranges)


class ShuffledGroup:
    """A group in one permutation an epoch."""

    def __init__(self, seed: int, group: Group, purpose: str) -> None:
        self.group, self.size = group, group.size
        self._seed, self._purpose = seed, purpose
        self._places = _positions(group, range(len(group.ranges)))
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def rows(self, places: Int64[np.ndarray, " b"]) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and positions in the selection of the samples that come at ``places`` of the group's sequence."""
        epochs = places // self.size
        rows = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = self._order_of(int(epoch))[places[chosen] % self.size]
        return epochs, rows

    def window(self, place: int) -> Window:
        """All shards, always."""
        return Window(tuple(part.shard for part in self.group.ranges), ())

    def _order_of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            drawn = permutation(self._seed, epoch, self.size, self._purpose)
            self._epoch, self._order = epoch, self._places[drawn]
        return self._order


class BlockShuffledGroup:
    """A group whose shards are shuffled, and whose samples are shuffled within a buffer of a few shards.

    Only one buffer of shards is read at a time, so a dataset need not fit on the local disk, and no order of the
    whole is ever in memory.
    """

    def __init__(self, seed: int, group: Group, purpose: str, buffer_shards: int) -> None:
        self.group, self.size = group, group.size
        self._seed, self._purpose, self._buffer_shards = seed, purpose, buffer_shards
        self._known: dict[tuple[int, int], np.ndarray] = {}
        self._plans: dict[int, tuple[list[list[int]], np.ndarray]] = {}

    def rows(self, places: Int64[np.ndarray, " b"]) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`ShuffledGroup.rows`."""
        epochs = places // self.size
        rows = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs).tolist():
            _, ends = self._plan(epoch)
            inside = places % self.size
            buffers = np.searchsorted(ends, inside, side="right")
            for buffer in np.unique(buffers[epochs == epoch]).tolist():
                chosen = (epochs == epoch) & (buffers == buffer)
                start = int(ends[buffer - 1]) if buffer else 0
                rows[chosen] = self._buffer_order(epoch, buffer)[inside[chosen] - start]
        return epochs, rows

    def window(self, place: int) -> Window:
        """The buffer that ``place`` lies in, and the next one."""
        epoch, inside = divmod(place, self.size)
        buffers, ends = self._plan(epoch)
        buffer = int(np.searchsorted(ends, inside, side="right"))
        following = buffers[buffer + 1] if buffer + 1 < len(buffers) else self._plan(epoch + 1)[0][0]
        return Window(self._shards(buffers[buffer]), self._shards(following))

    def _shards(self, buffer: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.group.ranges[index].shard for index in buffer)

    def _plan(self, epoch: int) -> tuple[list[list[int]], np.ndarray]:
        """Ranges of each buffer of an epoch, and the number of samples up to its end."""
        if epoch not in self._plans:
            count, size = len(self.group.ranges), self._buffer_shards
            shuffled = permutation(self._seed, epoch, count, f"{self._purpose}/shards").tolist()
            buffers = [shuffled[start : start + size] for start in range(0, count, size)]
            sizes = [sum(self.group.ranges[index].num_rows for index in buffer) for buffer in buffers]
            self._plans = {**dict(list(self._plans.items())[-1:]), epoch: (buffers, np.cumsum(sizes))}
        return self._plans[epoch]

    def _buffer_order(self, epoch: int, buffer: int) -> np.ndarray:
        key = (epoch, buffer)
        if key not in self._known:
            places = _positions(self.group, self._plan(epoch)[0][buffer])
            drawn = permutation(self._seed, epoch, len(places), f"{self._purpose}/{buffer}")
            # the last one stays: a batch may lie across two buffers
            self._known = {**dict(list(self._known.items())[-1:]), key: places[drawn]}
        return self._known[key]


class BucketOrder:
    """Batches of one bucket each, in proportion to the buckets' sizes.

    Block ``k`` of ``batch_size`` images belongs to one bucket, which continues its own endless sequence there. Blocks
    are dealt out in rounds: one round gives each bucket its exact share, rounded up or down with fair chances, in
    shuffled order.
    """

    def __init__(
        self, seed: int, groups: Sequence[ShuffledGroup | BlockShuffledGroup], batch_size: int, purpose: str
    ) -> None:
        self._seed, self._groups, self._batch_size = seed, list(groups), batch_size
        self._purpose = f"{purpose}/buckets"
        sizes = np.array([group.size for group in groups], np.float64)
        self._ends = np.cumsum(sizes) / sizes.sum()
        self._before = [np.zeros(len(groups), np.int64)]  # blocks of each bucket before each round
        self._round, self._dealt = -1, np.empty(0, np.int64)

    def draw(self, images_seen: int, count: int) -> Draw:
        """See :class:`Order`. Raises FoundryError for a batch that would hold two buckets."""
        block, inside = divmod(images_seen, self._batch_size)
        if len(self._groups) > 1 and inside + count > self._batch_size:
            raise FoundryError(
                f"a batch of {count} images after image {images_seen} crosses a multiple of batch_size "
                f"{self._batch_size}, where the bucket changes; go on from a multiple of it"
            )
        if len(self._groups) == 1:
            return self._drawn(0, images_seen, images_seen, count)
        bucket, number = self._bucket_of(block)
        return self._drawn(bucket, number * self._batch_size + inside, images_seen, count)

    def window(self, images_seen: int) -> Window:
        """The present and the next buffer of every bucket."""
        if len(self._groups) == 1:
            return self._groups[0].window(images_seen)
        windows = [
            group.window(int(count) * self._batch_size)
            for group, count in zip(self._groups, self._counts(images_seen // self._batch_size), strict=True)
        ]
        return Window(
            tuple(shard for window in windows for shard in window.now),
            tuple(shard for window in windows for shard in window.then),
        )

    def _drawn(self, bucket: int, place: int, images_seen: int, count: int) -> Draw:
        epochs, rows = self._groups[bucket].rows(np.arange(place, place + count, dtype=np.int64))
        return Draw(self._seed, epochs, rows, images_seen)

    def _bucket_of(self, block: int) -> tuple[int, int]:
        """Bucket of a block, and how many blocks that bucket had before."""
        turn, inside = divmod(block, BLOCKS_PER_ROUND)
        dealt = self._deal(turn)
        bucket = int(dealt[inside])
        return bucket, int(self._blocks_before(turn)[bucket]) + int(np.sum(dealt[:inside] == bucket))

    def _counts(self, block: int) -> Int64[np.ndarray, " buckets"]:
        turn, inside = divmod(block, BLOCKS_PER_ROUND)
        seen = np.bincount(self._deal(turn)[:inside], minlength=len(self._groups))
        return self._blocks_before(turn) + seen

    def _deal(self, turn: int) -> Int64[np.ndarray, " blocks"]:
        """Buckets of a round's blocks: evenly spaced points on the line of all sizes, their start drawn, shuffled."""
        if turn != self._round:
            dealt = self._even_points(turn)
            self._round = turn
            self._dealt = dealt[permutation(self._seed, turn, len(dealt), self._purpose)]
        return self._dealt

    def _even_points(self, turn: int) -> Int64[np.ndarray, " blocks"]:
        start = stream_key(self._seed, f"{self._purpose}/start", turn)[0] / 2**64
        points = (np.arange(BLOCKS_PER_ROUND) + start) / BLOCKS_PER_ROUND
        return np.minimum(np.searchsorted(self._ends, points, side="right"), len(self._ends) - 1)

    def _blocks_before(self, turn: int) -> Int64[np.ndarray, " buckets"]:
        while len(self._before) <= turn:
            latest = np.bincount(self._even_points(len(self._before) - 1), minlength=len(self._groups))
            self._before.append(self._before[-1] + latest)
        return self._before[turn]


class StagedOrder:
    """One order after the other: order ``i`` starts at image ``starts[i]``."""

    def __init__(self, starts: Sequence[int], orders: Sequence[BucketOrder]) -> None:
        self._starts, self._orders = list(starts), list(orders)

    def draw(self, images_seen: int, count: int) -> Draw:
        """See :class:`Order`; the stage of the first image counts."""
        stage = self._stage(images_seen)
        drawn = self._orders[stage].draw(images_seen - self._starts[stage], count)
        return Draw(drawn.seed, drawn.epochs, drawn.rows, images_seen)

    def window(self, images_seen: int) -> Window:
        """Shards of the stage, and the first ones of the next stage last."""
        stage = self._stage(images_seen)
        now, then = self._orders[stage].window(images_seen - self._starts[stage])
        if stage + 1 < len(self._orders):
            then = (*then, *self._orders[stage + 1].window(0).now)
        return Window(now, then)

    def _stage(self, images_seen: int) -> int:
        return int(np.searchsorted(self._starts, images_seen, side="right")) - 1


def build_order(
    seed: int, batch_size: int, selection: DatasetSelection, shards: TrainingShards
) -> ShardOrder:
    """The order that a recipe asks for. One shape, no stages: a permutation an epoch of the rows selected.

    Raises FoundryError when a stage's resolution has no samples.
    """
    groups = groups_of(selection, shards)
    if not selection.stages:
        return _one_stage(seed, batch_size, selection, [group for _, group in groups], "order")
    for stage in selection.stages:
        shards.ranges(selection.splits, resolution=stage.resolution)  # refuses a resolution without samples
    orders = [
        _one_stage(
            seed,
            batch_size,
            selection,
            [group for resolution, group in groups if resolution == stage.resolution],
            f"order/{stage.resolution}",
        )
        for stage in selection.stages
    ]
    return StagedOrder([stage.images_from for stage in selection.stages], orders)


def selected(selection: DatasetSelection, shards: TrainingShards) -> list[ShardRange]:
    """The rows that a recipe's selection asks for. Raises FoundryError when there are none."""
    return shards.ranges(
        selection.splits,
        selection.max_samples,
        raw=selection.filter == "raw",
        max_concepts=selection.max_concepts,
    )


def groups_of(selection: DatasetSelection, shards: TrainingShards) -> list[tuple[int | None, Group]]:
    """The selection's samples by resolution and latent shape, in order of their first row."""
    ranges = selected(selection, shards)
    firsts = np.concatenate([[0], np.cumsum([part.num_rows for part in ranges])]).tolist()
    found: dict[tuple[int | None, tuple[int, int, int]], list[tuple[ShardRange, int]]] = {}
    for part, (first, _) in zip(ranges, pairwise(firsts), strict=True):
        about = shards.description.shards[part.shard]
        found.setdefault((about.resolution, about.latent_shape), []).append((part, first))
    return [
        (
            resolution,
            Group(
                "x".join(map(str, shape)) + f"@{resolution}",
                tuple(part for part, _ in parts),
                tuple(first for _, first in parts),
            ),
        )
        for (resolution, shape), parts in found.items()
    ]


def _one_stage(
    seed: int, batch_size: int, selection: DatasetSelection, groups: Sequence[Group], purpose: str
) -> BucketOrder:
    orders: list[ShuffledGroup | BlockShuffledGroup] = []
    for group in groups:
        own = purpose if len(groups) == 1 else f"{purpose}/{group.name}"
        if selection.order == "blocks":
            orders.append(BlockShuffledGroup(seed, group, own, selection.buffer_shards))
        else:
            orders.append(ShuffledGroup(seed, group, own))
    return BucketOrder(seed, orders, batch_size, purpose)


def _positions(group: Group, ranges: Sequence[int] | range) -> Int64[np.ndarray, " n"]:
    """Positions in the selection of all samples of some of the group's ranges."""
    return np.concatenate(
        [
            np.arange(group.firsts[index], group.firsts[index] + group.ranges[index].num_rows)
            for index in ranges
        ]
    ).astype(np.int64)
