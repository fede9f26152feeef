"""Batch work on a pool of Ray Data actors: each loads its model once and takes pieces of work as it becomes free."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assets.interfaces import BatchFunction, BatchWorker, Resources, WorkItem
from orchestration.resources.parcels import (
    Answer,
    Order,
    packed_answer,
    packed_error,
    pickled,
    unpacked_answer,
)
from orchestration.resources.pieces import Piece
from training.errors import FoundryError

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.data import DataContext

PIECES_AT_ONCE = 2
"""One that is worked on and one whose rows are loaded meanwhile, so that the model never waits."""

DEATHS_OF_A_PIECE = 1
"""How often a piece is given to another worker after one died with it, before it is set aside."""

PIECES_SET_ASIDE = 16
"""More pieces whose workers died are no accident of single rows."""

LARGEST_INLINE_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Pool:
    """What a pool works with: the batch function, the items and what each worker needs."""

    worker: BatchWorker
    items: Sequence[WorkItem]
    resources: Resources


def run_pool(pool: Pool, pieces: Sequence[Piece]) -> Generator[Answer, None, list[Piece]]:
    """Answers to the pieces as they come, each once; returns those whose workers died again and again.

    Ray must be connected. Raises FoundryError or WorkerFailed with what a worker said, and FoundryError when workers
    die on more than a few pieces.
    """
    import ray
    from ray.data import DataContext

    inline, shared = _loads(pool.items, pieces)
    orders = [Order(index, piece, inline.get(piece.item)) for index, piece in enumerate(pieces)]
    answered: set[int] = set()
    with DataContext.current(_settings()):
        blocks = _stream(pool, orders, shared)
        try:
            for block in blocks:
                answer = unpacked_answer(block)
                if answer.index not in answered:  # a piece done twice, where a worker died after answering
                    answered.add(answer.index)
                    yield answer
        except ray.exceptions.RayError as error:
            raise FoundryError(
                f"Workers of {pool.worker.factory.__qualname__} keep dying; {len(answered):,} of {len(pieces):,} pieces "
                f"of work were answered. Does one worker fit into memory? Ray says: {error}"
            ) from error
        finally:
            blocks.close()
    return [piece for index, piece in enumerate(pieces) if index not in answered]


def _loads(
    items: Sequence[WorkItem], pieces: Sequence[Piece]
) -> tuple[dict[int, bytes], dict[int, ObjectRef]]:
    """How to load each item: small descriptions travel with every piece, large ones once through shared memory."""
    import ray

    inline: dict[int, bytes] = {}
    shared: dict[int, ObjectRef] = {}
    for item in sorted({piece.item for piece in pieces}):
        payload = pickled(items[item].load)
        if len(payload) <= LARGEST_INLINE_BYTES:
            inline[item] = payload
        else:
            shared[item] = ray.put(payload)
    return inline, shared


def _settings() -> DataContext:
    """Ray Data's settings for a pool, apart from the process's own."""
    from ray.data import DataContext

    settings = DataContext.get_current().copy()
    settings.enable_progress_bars = False
    settings.target_max_block_size = None  # an answer is one block: cut or merged it could not be told apart
    settings.memory_usage_poll_interval_s = None  # reading a worker's memory takes as long as a small piece
    settings.max_errored_blocks = PIECES_SET_ASIDE  # our own errors travel as answers: only deaths count here
    return settings


def _stream(
    pool: Pool, orders: Sequence[Order], shared: Mapping[int, ObjectRef]
) -> Generator[pa.Table, None, None]:
    """Packed answers; closing the generator ends the pool."""
    import ray.data

    resources = pool.resources
    dataset = ray.data.from_blocks([order.packed() for order in orders]).map_batches(
        PoolWorker,
        fn_constructor_kwargs={
            "worker": pool.worker,
            "threads": resources.threads,
            "batch_size": resources.batch_size,
            "shared": dict(shared),
        },
        batch_format="pyarrow",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(
            size=min(resources.actors, len(orders)),
            max_concurrent_calls_per_actor=PIECES_AT_ONCE,
            max_tasks_in_flight_per_actor=PIECES_AT_ONCE,
            enable_true_multi_threading=True,  # loading alone is concurrent: see PoolWorker
        ),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus or None,
        max_restarts=-1,
        max_task_retries=DEATHS_OF_A_PIECE,
    )
    yield from dataset.iter_batches(batch_format="pyarrow", batch_size=None)


class PoolWorker:
    """What runs in each actor: the batch function, built once.

    Two pieces are in an actor at a time, each in a thread of Ray's. The model is built and called in a third thread,
    always the same one, so that it sees one call at a time and keeps what it set for its thread; a fourth one loads
    rows, so that the model need not wait for them. What either raises travels back as an answer.
    """

    def __init__(
        self, worker: BatchWorker, threads: int, batch_size: int, shared: Mapping[int, ObjectRef]
    ) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that this process loads from here on
        self._batch_size = batch_size
        self._shared = shared
        self._kept: tuple[int, pa.Table] | None = None
        self._loader = ThreadPoolExecutor(1, "loader")
        self._model = ThreadPoolExecutor(1, "model")
        self._function: Future[BatchFunction] = self._model.submit(build_function, worker, threads)
        self._function.exception()  # waits: an actor is ready when its model is loaded

    def __call__(self, block: pa.Table) -> pa.Table:
        """Packed order in, packed answer out."""
        order = Order.unpacked(block)
        answer = self._model.submit(self._answer, order, self._loader.submit(self._rows, order))
        error = answer.exception()
        return packed_error(order.index, error) if error is not None else packed_answer(answer.result())

    def _rows(self, order: Order) -> pa.Table:
        """The order's rows. The last item is kept: the next piece is mostly of the same one."""
        import ray

        item = order.piece.item
        if self._kept is None or self._kept[0] != item:
            self._kept = None
            payload = ray.get(self._shared[item]) if order.load is None else order.load
            self._kept = (item, pickle.loads(payload)())
        return order.piece.rows_of(self._kept[1])

    def _answer(self, order: Order, rows: Future[pa.Table]) -> Answer:
        table = rows.result()
        function = self._function.result()
        starts = range(0, table.num_rows, self._batch_size)
        tables = [function(table.slice(start, self._batch_size)) for start in starts]
        return Answer(order.index, table.num_rows, pa.concat_tables(tables) if tables else pa.table({}))


def build_function(worker: BatchWorker, threads: int) -> BatchFunction:
    """Build the batch function with so many torch threads; torch is not imported for functions without it."""
    _set_torch_threads(threads)
    function = worker.factory(**worker.kwargs)
    _set_torch_threads(threads)
    return function


def _set_torch_threads(threads: int) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
