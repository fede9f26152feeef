"""Batch work on a pool of Ray Data actors: each loads its model once and takes pieces of work as it becomes free."""

from __future__ import annotations

import os
import pickle
import sys
import uuid
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assets.graph.interfaces import BatchFunction, BatchWorker, Resources, WorkItem
from orchestration.collector import collect_seldom
from orchestration.resources.chunking import Piece, Span, rows_in
from orchestration.resources.pool_messages import (
    Answer,
    Order,
    WorkerFailed,
    packed_answer,
    packed_error,
    pickled,
    unpacked_answer,
)
from training.errors import FoundryError

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.data import DataContext

PIECES_AT_ONCE = 2
"""One that is worked on and one whose rows are loaded meanwhile, so that the model never waits."""

PIECES_QUEUED = 4
"""Ray Data looks for finished pieces ten times a second: at the end, small pieces have to bridge that time. With more,
the first worker to start would take most of the work."""

MOST_SET_ASIDE = 16
"""More pieces whose workers died are no accident of single rows."""

MOST_SET_ASIDE_AT_FIRST = 2
"""As long as no piece was answered at all."""

DEATHS_OF_HEIRS = 1
"""So many workers that took the place of dead ones may die with a piece before it is set aside."""

SPARE_BUILDS = 3
"""So many of them may die while they load their model."""

BUILDING = -1
LARGEST_INLINE_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Pool:
    """What a pool works with: the batch function, the items, what each worker needs, and a Ledger's actor handle."""

    worker: BatchWorker
    items: Sequence[WorkItem]
    resources: Resources
    ledger: Any


def run_pool(pool: Pool, pieces: Sequence[Piece]) -> Generator[Answer, None, list[Piece]]:
    """Answers to the pieces as they come, each once; returns those with which a worker died, and its heir too.

    Ray must be connected. Raises FoundryError or WorkerFailed with what a worker said, and FoundryError when workers
    die on more than a few pieces.
    """
    import ray

    run = uuid.uuid4().hex
    answered: set[int] = set()
    died: list[Piece] = []
    blocks = _stream(pool, pieces, run)
    try:
        for block in blocks:
            answer = unpacked_answer(block)
            if answer.rows is None:
                died.append(pieces[answer.index])
                _refuse_when_broken(pool, len(died), len(answered))
            elif answer.index not in answered:  # twice, where a worker died after answering
                answered.add(answer.index)
                yield answer
    except ray.exceptions.RayError as error:
        raise FoundryError(f"The pool of {_name(pool)} was lost: {error}") from error
    finally:
        blocks.close()
        pool.ledger.forget.remote(run)
    if len(answered) + len(died) != len(pieces):
        raise WorkerFailed(f"{len(answered):,} of {len(pieces):,} pieces of work were answered")
    return died


def _refuse_when_broken(pool: Pool, num_died: int, num_answered: int) -> None:
    if num_died <= (MOST_SET_ASIDE if num_answered else MOST_SET_ASIDE_AT_FIRST):
        return
    raise FoundryError(
        f"Workers of {_name(pool)} die again and again: on {num_died:,} pieces of work, while {num_answered:,} were "
        "answered. Does a worker fit into the memory of its machine and GPU? Try it with `mode: inline`, where its "
        "last words are seen."
    )


def _name(pool: Pool) -> str:
    return pool.worker.factory.__qualname__


def _loads(
    items: Sequence[WorkItem], pieces: Sequence[Piece]
) -> tuple[dict[int, bytes], dict[int, ObjectRef]]:
    """How to load each item: small descriptions travel with every piece, large ones once through shared memory."""
    import ray

    inline: dict[int, bytes] = {}
    shared: dict[int, ObjectRef] = {}
    for item in sorted({span.item for piece in pieces for span in piece}):
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
    return settings


def _stream(pool: Pool, pieces: Sequence[Piece], run: str) -> Generator[pa.Table, None, None]:
    """Packed answers; closing the generator ends the pool."""
    import ray.data
    from ray.data import DataContext

    resources = pool.resources
    inline, shared = _loads(pool.items, pieces)
    orders = [
        Order(index, piece, tuple(inline.get(span.item) for span in piece))
        for index, piece in enumerate(pieces)
    ]
    with DataContext.current(_settings()):  # a dataset keeps the settings it was made under
        dataset = ray.data.from_blocks([order.packed() for order in orders]).map_batches(
            PoolWorker,
            fn_constructor_kwargs={
                "worker": pool.worker,
                "resources": resources,
                "shared": shared,
                "ledger": pool.ledger,
                "run": run,
            },
            batch_format="pyarrow",
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(
                size=min(resources.actors, len(orders)),
                max_concurrent_calls_per_actor=PIECES_AT_ONCE,
                max_tasks_in_flight_per_actor=PIECES_QUEUED,
                enable_true_multi_threading=True,  # loading alone is concurrent: see PoolWorker
            ),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus or None,
        )
    yield from dataset.iter_batches(batch_format="pyarrow", batch_size=None)


class PoolWorker:
    """What runs in each actor: the batch function, built once.

    Two pieces are in an actor at a time, each in a thread of Ray's. The model is built and called in a third thread,
    always the same one, so that it sees one call at a time and keeps what it set for its thread; a fourth one loads
    rows, so that the model need not wait for them. What either raises travels back as an answer, so that Ray itself
    sees no failure but the death of a process, upon which it starts another and gives it the same pieces.
    """

    def __init__(
        self,
        worker: BatchWorker,
        resources: Resources,
        shared: Mapping[int, ObjectRef],
        ledger: Any,
        run: str,
    ) -> None:
        import ray

        collect_seldom()
        os.environ["OMP_NUM_THREADS"] = str(resources.threads)  # for what is imported from here on
        self._resources = resources
        self._shared = shared
        self._ledger = ledger
        self._run = run
        self._is_heir = ray.get_runtime_context().was_current_actor_reconstructed
        self._kept: tuple[int, pa.Table] | None = None
        self._loader = ThreadPoolExecutor(1, "loader")
        self._model = ThreadPoolExecutor(1, "model")
        self._function: Future[BatchFunction] = self._model.submit(self._built, worker)
        self._function.exception()  # waits: an actor is ready when its model is loaded

    def _built(self, worker: BatchWorker) -> BatchFunction:
        """The batch function, unless too many workers died building it."""
        if self._begun_before(BUILDING) >= SPARE_BUILDS:
            raise FoundryError(
                f"Workers die while {worker.factory.__qualname__} is built. Does the model fit into memory? Try it with "
                "`mode: inline`, where its last words are seen."
            )
        function = build_function(worker, self._resources.threads)
        self._ended(BUILDING)
        return function

    def _begun_before(self, work: int) -> int:
        """How many workers that took the place of dead ones have begun this already. Others need not ask."""
        import ray

        begun: int = ray.get(self._ledger.begin.remote(self._run, work)) if self._is_heir else 0
        return begun

    def _ended(self, work: int) -> None:
        """Waits, so that this is known should the next piece end the process before the answer is out."""
        import ray

        if self._is_heir:
            ray.get(self._ledger.end.remote(self._run, work))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Packed order in, packed answer out."""
        order = Order.unpacked(block)
        answer = self._model.submit(self._answer, order, self._loading(order, 0))
        error = answer.exception()
        return packed_error(order.index, error) if error is not None else packed_answer(answer.result())

    def _loading(self, order: Order, position: int) -> Future[pa.Table]:
        return self._loader.submit(self._rows, order.piece[position], order.loads[position])

    def _rows(self, span: Span, load: bytes | None) -> pa.Table:
        """The span's rows. The last item is kept: the next span may be of the same one."""
        import ray

        if self._kept is None or self._kept[0] != span.item:
            self._kept = None
            payload = ray.get(self._shared[span.item]) if load is None else load
            self._kept = (span.item, pickle.loads(payload)())
        return span.rows_of(self._kept[1])

    def _answer(self, order: Order, loading: Future[pa.Table]) -> Answer:
        """What the model says to the order's rows; nothing where worker after worker died with them.

        While it is at work on one span the next one is loaded.
        """
        function = self._function.result()
        if self._begun_before(order.index) >= DEATHS_OF_HEIRS:
            return Answer(order.index, rows_in(order.piece), None)
        tables, num_rows = [], 0
        for position in range(len(order.piece)):
            rows = loading.result()
            if position + 1 < len(order.piece):
                loading = self._loading(order, position + 1)
            starts = range(0, rows.num_rows, self._resources.batch_size)
            tables += [function(rows.slice(start, self._resources.batch_size)) for start in starts]
            num_rows += rows.num_rows
        self._ended(order.index)
        return Answer(order.index, num_rows, pa.concat_tables(tables) if tables else pa.table({}))


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
