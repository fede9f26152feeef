"""Where work runs: in this process, or on Ray (here, or a cluster by address). Ray is named in this folder alone."""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.derivation.worker_errors import DeadlyRows
from assets.graph.interfaces import BatchFunction, BatchWorker, Resources, WorkItem
from assets.pages.progress_log import relayed
from orchestration.collector import collect_seldom
from orchestration.resources.attempts import start_ledger
from orchestration.resources.chunking import Piece, cut_smaller, plan_pieces
from orchestration.resources.following import follow, progress_line
from orchestration.resources.pool import Pool, build_function, run_pool
from orchestration.resources.rate import Rate
from orchestration.resources.ray_connection import (
    OBJECT_STORE_BYTES,
    connect,
    has_died,
    require_room,
    room_for,
)
from orchestration.resources.training_cluster import train_on_workers
from training.digests import sha256_bytes
from training.errors import TrainingFailed
from training.run_folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS_TO_STOP = 8.0
MOST_LOADED = 12
"""Small models that a process keeps loaded; the one used longest ago goes first."""
Log = Callable[[str], None]


class InlineCompute:
    """Everything in this process: for tests, for light work, and for stepping through with a debugger."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, BatchFunction] = OrderedDict()

    def prepare(self) -> None:
        """Nothing has to be started."""

    def train(self, run_folder: Path, resources: Resources, log: Log) -> None:
        """See :class:`assets.graph.interfaces.Compute`."""
        from training.run import run

        folder = RunFolder(run_folder)
        with relayed(lambda: progress_line(folder.read_progress()), log):
            run(run_folder)

    def map_shards(
        self, worker: BatchWorker, items: Sequence[WorkItem], resources: Resources, log: Log
    ) -> Iterator[pa.Table]:
        """See :class:`assets.graph.interfaces.Compute`."""
        if not items:
            return
        import torch  # so that its threads are set even where the batch function imports it later

        torch.set_num_threads(resources.threads)
        function = self._function(worker, resources)
        rate = Rate(log, sum(item.num_rows for item in items))
        for item in items:
            rows = item.load()
            for start in range(0, rows.num_rows, resources.batch_size):
                batch = rows.slice(start, resources.batch_size)
                yield function(batch)
                rate.add(batch.num_rows)
        rate.finish()

    def _function(self, worker: BatchWorker, resources: Resources) -> BatchFunction:
        """The batch function, built anew unless it is one that stays loaded."""
        if not resources.keep_loaded:
            return build_function(worker, resources.threads)
        key = sha256_bytes(pickle.dumps((worker, resources.threads)))
        if key not in self._loaded:
            self._loaded[key] = build_function(worker, resources.threads)
            if len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]


class RayCompute:
    """Work as Ray tasks and Ray Data actor pools.

    Without an address a Ray of ``cpus`` logical CPUs is started in this process on first use and ends with it;
    with an address (``auto``, ``host:port`` or ``ray://host:port``) the work goes to that cluster, which must
    have the project's code installed and see the same folders. ``object_store_bytes`` bounds the shared memory of a
    Ray of our own.
    """

    def __init__(
        self,
        cpus: int,
        address: str | None = None,
        inline_rows: int = 0,
        object_store_bytes: int = OBJECT_STORE_BYTES,
    ) -> None:
        self._cpus = cpus
        self._object_store_bytes = object_store_bytes
        self._address = address
        self._inline_rows = inline_rows
        self._inline = InlineCompute()
        self._connecting = threading.Lock()
        self._ledgers: dict[str, Any] = {}  # of the Ray at this address; there is one at a time

    def prepare(self) -> None:
        """Reach the cluster before it is needed; a worker of a Ray of our own loads meanwhile what a training needs."""
        ray = self._connected()
        if self._address is None:
            ray.remote(_load_training).options(num_cpus=1).remote()

    def train(self, run_folder: Path, resources: Resources, log: Log) -> None:
        """See :class:`assets.graph.interfaces.Compute`. With as many workers as the run folder's ``world_size`` says.

        Whatever interrupts this call (a termination in the UI, Ctrl-C) stops the training: first by its stop
        file, so that it saves a checkpoint, then by force.
        """
        ray = self._connected()
        workers = RunFolder(run_folder).read_execution().world_size
        require_room(ray, resources, workers)
        task = _start_training(ray, run_folder, resources, workers)
        each = f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs"
        needs = each if workers == 1 else f"{workers} workers of {each}"
        log(f"dispatched to Ray ({needs}), run folder {run_folder}")
        try:
            follow(run_folder, lambda: bool(ray.wait([task], timeout=0)[0]), log)
            ray.get(task)
        except ray.exceptions.RayTaskError as error:
            raise TrainingFailed(str(error.cause)) from error
        except ray.exceptions.RayError as error:
            raise TrainingFailed(
                f"the Ray worker of {run_folder} ended without an answer ({error}). Its last checkpoint is kept: "
                "launch the same partition again to go on from there."
            ) from error
        finally:
            if not ray.wait([task], timeout=0)[0]:
                self._stop(run_folder, task)

    def map_shards(
        self, worker: BatchWorker, items: Sequence[WorkItem], resources: Resources, log: Log
    ) -> Iterator[pa.Table]:
        """See :class:`assets.graph.interfaces.Compute`. A Ray Data actor pool: each actor loads its model once.

        Items are loaded in the actors, the next one while the model is at work on the last one; only rows that were
        answered come here. Few rows that need no GPU are worked on in this process (``inline_rows`` of the resources,
        else of this compute): for a handful of new images, starting actors takes longer than looking at the images.

        A row on which its worker's process dies is found by trying ever smaller pieces. Raises DeadlyRows with such
        rows after all others have been answered.
        """
        total = sum(item.num_rows for item in items)
        few = self._inline_rows if resources.inline_rows is None else resources.inline_rows
        if not items or (total <= few and not resources.gpus):
            yield from self._inline.map_shards(worker, items, resources, log)
            return
        ray = self._connected()
        room = room_for(ray, resources)
        if room < resources.actors:
            log(f"Ray has room for {room} of {resources.actors} workers")
        resources = replace(resources, actors=min(room, resources.actors))
        pool = Pool(worker, items, resources, self._ledger_of(ray))
        pieces = plan_pieces([item.num_rows for item in items], resources.batch_size, resources.actors)
        log(f"dispatched to Ray: {total:,} rows in {len(pieces):,} pieces to {resources.actors} workers")
        rate = Rate(log, total)
        died = yield from _answered(pool, pieces, rate)
        for rows_per_piece in (resources.batch_size, 1):
            if died:
                log(f"workers died with {len(died):,} pieces of work; trying {rows_per_piece} rows at a time")
                died = yield from _answered(pool, cut_smaller(died, rows_per_piece), rate)
        rate.finish()
        if died:
            raise _deadly(items, died)

    def _stop(self, run_folder: Path, task: Any) -> None:
        import ray

        RunFolder(run_folder).request_stop()
        if not ray.wait([task], timeout=SECONDS_TO_STOP)[0]:
            ray.cancel(task, force=True)

    def _connected(self) -> Any:
        """The ray module, with a connection; a Ray of our own that has died is replaced.

        Raises FoundryError when the cluster cannot be reached.
        """
        import ray

        with self._connecting:
            if has_died(ray):
                ray.shutdown()  # whatever is asked of it would wait for ever
            if not ray.is_initialized():
                connect(ray, self._cpus, self._address, self._object_store_bytes)
        return ray

    def _ledger_of(self, ray: Any) -> Any:
        """The ledger of all pools of this connection."""
        address = ray.get_runtime_context().gcs_address
        with self._connecting:
            if address not in self._ledgers:
                self._ledgers = {address: start_ledger(ray)}
            return self._ledgers[address]


def _answered(pool: Pool, pieces: Sequence[Piece], rate: Rate) -> Generator[pa.Table, None, list[Piece]]:
    """Rows of all pieces but those, returned, whose workers died."""
    with closing(run_pool(pool, pieces)) as answers:
        while True:
            try:
                answer = next(answers)
            except StopIteration as end:
                died: list[Piece] = end.value
                return died
            rate.add(answer.num_rows)
            if answer.rows is not None and answer.rows.num_columns:
                yield answer.rows


def _deadly(items: Sequence[WorkItem], pieces: Sequence[Piece]) -> DeadlyRows:
    """The error that names the rows of these pieces."""
    import pyarrow as pa

    rows = pa.concat_tables([span.rows_of(items[span.item].load()) for piece in pieces for span in piece])
    first = {name: rows[name][0].as_py() for name in rows.column_names}
    named = {name: value for name, value in first.items() if isinstance(value, str | int)}
    return DeadlyRows(
        f"{rows.num_rows:,} row(s) end the process of every worker that looks at them, first {named}. All other rows "
        "were answered. Look at these (a damaged image? one too large for the memory?) and leave them out, or give "
        "the model another version.",
        rows,
    )


def _start_training(ray: Any, run_folder: Path, resources: Resources, workers: int) -> Any:
    """The Ray task that trains, or that minds the workers who do."""
    name = f"train {run_folder.name[:12]}"
    if workers == 1:
        task = ray.remote(_train_in_worker).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0, name=name
        )
        return task.remote(str(run_folder))
    task = ray.remote(train_on_workers).options(num_cpus=0, max_retries=0, name=name)
    return task.remote(str(run_folder), workers, resources.cpus, resources.gpus)


def _load_training() -> None:
    """Import what a training does, once for all that this worker will do."""
    collect_seldom()
    import training.run  # noqa: F401


def _train_in_worker(run_folder: str) -> None:
    collect_seldom()
    from training.run import run

    run(Path(run_folder))
