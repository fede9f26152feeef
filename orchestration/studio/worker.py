"""What all pages of one server share: one generation at a time, in a thread of its own, and the model of the last one loaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from training.errors import FoundryError

Result = TypeVar("Result")


class StoppedError(FoundryError):
    """Somebody stopped the generation."""


class Job(Generic[Result]):
    """A generation on its way; a page reads it while a thread works on it."""

    future: Future[Result]

    def __init__(self, num_steps: int) -> None:
        self.state = "waiting for another generation"
        self.step, self.num_steps = 0, num_steps
        self._began = time.monotonic()
        self._stopped = threading.Event()

    @property
    def progress(self) -> float:
        """Share of the steps that were taken, [0, 1]."""
        return self.step / self.num_steps

    @property
    def words(self) -> str:
        """What is being done, for how long."""
        steps = f" step {self.step + 1} of {self.num_steps}" if self.state == "drawing" else ""
        return f"{self.state}{steps}, {time.monotonic() - self._began:.0f} s"

    def stop(self) -> None:
        """End it before its next step; its future raises StoppedError."""
        self._stopped.set()

    def enter(self, state: str) -> None:
        """Say what is done now. Raises StoppedError where it should end."""
        if self._stopped.is_set():
            raise StoppedError("stopped")
        self.state = state

    def tell(self, step: int, offset: int = 0) -> None:
        """Step ``step`` is about to be taken, ``offset`` were taken before. Raises StoppedError where it should end."""
        self.enter("drawing")
        self.step = offset + step


class Worker:
    """The thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studio")
        self._loaded: tuple[Hashable, Any] | None = None
        self._jobs: set[Job[Any]] = set()

    def begin(self, job: Job[Result], work: Callable[[], Result]) -> Job[Result]:
        """Do ``work`` as soon as nothing else goes on."""
        self._jobs.add(job)
        job.future = self._thread.submit(work)
        job.future.add_done_callback(lambda _: self._jobs.discard(job))
        return job

    def loaded(self, name: Hashable, load: Callable[[], Any]) -> Any:
        """The model of that name: the one that is loaded, or loaded now in place of another. To be asked inside of work."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # two at once may not fit
            self._loaded = name, load()
        return self._loaded[1]

    def close(self) -> None:
        """Stop what is under way, and begin nothing more."""
        for job in list(self._jobs):
            job.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)
