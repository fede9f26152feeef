"""Where work runs: in this process, or on Ray (here, or a cluster by address). Ray is named here alone."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.interfaces import BatchFunction, BatchWorker, Resources
from orchestration.resources.following import follow
from training.errors import FoundryError, TrainingFailed
from training.run_folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS_TO_STOP = 8.0
OBJECT_STORE_BYTES = 200 * 2**20
Log = Callable[[str], None]


class InlineCompute:
    """Everything in this process: for tests, and for stepping through with a debugger."""

    def train(self, run_folder: Path, resources: Resources, log: Log) -> None:
        """See :class:`assets.interfaces.Compute`."""
        from training.run import run

        watcher_done = threading.Event()
        watcher = threading.Thread(target=follow, args=(run_folder, watcher_done.is_set, log), daemon=True)
        watcher.start()
        try:
            run(run_folder)
        finally:
            watcher_done.set()
            watcher.join()

    def map_shards(
        self, worker: BatchWorker, shards: Iterable[pa.Table], resources: Resources, log: Log
    ) -> Iterator[pa.Table]:
        """See :class:`assets.interfaces.Compute`."""
        function = _build(worker, resources.threads)
        rate = _Rate(log)
        for shard in shards:
            for start in range(0, shard.num_rows, resources.batch_size):
                batch = shard.slice(start, resources.batch_size)
                yield function(batch)
                rate.add(batch.num_rows)


class RayCompute:
    """Work as Ray tasks and Ray Data actor pools.

    Without an address a Ray of ``cpus`` logical CPUs is started in this process on first use and ends with it;
    with an address (``auto``, ``host:port`` or ``ray://host:port``) the work goes to that cluster, which must
    have the project's code installed and see the same folders.
    """

    def __init__(self, cpus: int, address: str | None = None, inline_rows: int = 0) -> None:
        self._cpus = cpus
        self._address = address
        self._inline_rows = inline_rows
        self._inline = InlineCompute()
        self._connecting = threading.Lock()

    def train(self, run_folder: Path, resources: Resources, log: Log) -> None:
        """See :class:`assets.interfaces.Compute`.

        Whatever interrupts this call (a termination in the UI, Ctrl-C) stops the training: first by its stop
        file, so that it saves a checkpoint, then by force.
        """
        ray = self._connected()
        task = (
            ray.remote(_train_in_worker)
            .options(
                num_cpus=resources.cpus,
                num_gpus=resources.gpus,
                max_retries=0,
                name=f"train {run_folder.name[:12]}",
            )
            .remote(str(run_folder))
        )
        log(f"dispatched to Ray ({resources.cpus:g} CPUs, {resources.gpus:g} GPUs), run folder {run_folder}")
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
        self, worker: BatchWorker, shards: Iterable[pa.Table], resources: Resources, log: Log
    ) -> Iterator[pa.Table]:
        """See :class:`assets.interfaces.Compute`. An actor pool: each actor loads its models once.

        At most ``inline_rows`` rows are worked on in this process: for a handful of new images, starting actors
        would take longer than looking at the images.

        Actors ask for half a CPU each at most where they are two on two, because a pool that takes every
        schedulable CPU starves the tasks that feed it.
        """
        tables = [shard for shard in shards if shard.num_rows]
        if not tables:
            return
        if sum(table.num_rows for table in tables) <= self._inline_rows:
            yield from self._inline.map_shards(worker, tables, resources, log)
            return
        self._connected()
        import ray.data

        rate = _Rate(log)
        rows = ray.data.from_arrow(tables).map_batches(
            _RayActor,
            fn_constructor_kwargs={"worker": worker, "threads": resources.threads},
            batch_format="pyarrow",
            batch_size=resources.batch_size,
            compute=ray.data.ActorPoolStrategy(size=resources.actors),
            num_cpus=min(resources.cpus, 0.5) if resources.gpus == 0 else resources.cpus,
            num_gpus=resources.gpus or None,
        )
        for batch in rows.iter_batches(batch_format="pyarrow", batch_size=None):
            yield batch
            rate.add(batch.num_rows)

    def _stop(self, run_folder: Path, task: Any) -> None:
        import ray

        RunFolder(run_folder).request_stop()
        if not ray.wait([task], timeout=SECONDS_TO_STOP)[0]:
            ray.cancel(task, force=True)

    def _connected(self) -> Any:
        """The ray module, with a connection. Raises FoundryError when the cluster cannot be reached."""
        import ray

        with self._connecting:
            if not ray.is_initialized():
                _connect(ray, self._cpus, self._address)
        return ray


def _connect(ray: Any, cpus: int, address: str | None) -> None:
    _quieten()
    if address is None:
        ray.init(
            address="local",  # else Ray would join whatever head node runs on this machine
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        return
    try:
        _require_listener(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FoundryError(
            f"No Ray cluster answers at '{address}' ({error}). Start it (`ray start --head`), or leave the profile's "
            "compute address empty for a Ray of this process's own. Head node and this process must agree on "
            f"RAY_AUTH_MODE, which is '{os.environ.get('RAY_AUTH_MODE', '')}' here."
        ) from error


def _require_listener(address: str) -> None:
    """Raise ConnectionError when nothing listens at ``host:port``: Ray itself would go on asking for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return  # 'auto' and the like, which Ray answers at once
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(str(error)) from error


def _quieten() -> None:
    """Ray's own progress lines would bury ours; its warnings and errors stay."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _train_in_worker(run_folder: str) -> None:
    from training.run import run

    run(Path(run_folder))


class _RayActor:
    """What runs in each actor of a pool: the batch function, built once."""

    def __init__(self, worker: BatchWorker, threads: int) -> None:
        self._function = _build(worker, threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._function(batch)


def _build(worker: BatchWorker, threads: int) -> BatchFunction:
    """Build the batch function with its threads set: Ray gives a worker one, a bare process all of them."""
    import torch

    torch.set_num_threads(threads)
    return worker.factory(**worker.kwargs)


class _Rate:
    """Relays rows and rows per second, at most one line in five seconds."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._start = self._last = time.monotonic()
        self._rows = 0

    def add(self, rows: int) -> None:
        self._rows += rows
        now = time.monotonic()
        if now - self._last >= 5.0:
            self._last = now
            self._log(f"{self._rows:,} rows, {self._rows / (now - self._start):,.0f} rows/s")
