"""Drawing for all pages of one server: one generation at a time, and the model of the last one stays loaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from assets.layout.prompted import Asked, Drawn, LayoutModel
from training.errors import FoundryError
from training.layout.entities import Layout
from training.recipes.layout import options_of_folder
from training.recipes.text_encoder import EncoderSettings

Tell = Callable[[int, int], None]
"""Told the number of a step before it is taken, and how many there are."""


class Model(Protocol):
    """What draws; :class:`PipelineModel`, or a stand-in."""

    def draw(self, layout: Layout, asked: Asked, tell: Tell) -> Drawn:
        """Draw a layout."""
        ...


class StoppedError(FoundryError):
    """Somebody stopped the generation."""


@dataclass(frozen=True)
class Wish:
    """What a page asks for: ``name`` is how it calls the model. ``beside_base``: the same noise also without the layout."""

    name: str
    folder: Path
    layout: Layout
    asked: Asked
    beside_base: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a wish; ``base`` are the same seeds without the layout."""

    wish: Wish
    drawn: Drawn
    base: Drawn | None = None


class Job:
    """A wish on its way; a page reads it while a thread works on it."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.future: Future[Outcome]
        self.state = "waiting for another generation"
        self.step = 0
        self.num_steps = wish.asked.steps * (2 if wish.beside_base else 1)
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


class Artist:
    """Draws wishes one after the other in a thread of its own. ``load`` makes a model of a pipeline folder."""

    def __init__(self, load: Callable[[Path], Model]) -> None:
        self._load = load
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studio")
        self._loaded: tuple[Path, Model] | None = None
        self._jobs: set[Job] = set()

    def begin(self, wish: Wish) -> Job:
        """Begin as soon as no other generation goes on; the job's future has the outcome, or a FoundryError."""
        job = Job(wish)
        self._jobs.add(job)
        job.future = self._thread.submit(self._run, job)
        job.future.add_done_callback(lambda _: self._jobs.discard(job))
        return job

    def close(self) -> None:
        """Stop what is under way, and begin nothing more."""
        for job in list(self._jobs):
            job.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job) -> Outcome:
        wish, steps = job.wish, job.wish.asked.steps
        job.enter("loading the model")
        model = self._model(wish.folder)
        job.enter("reading the texts")
        drawn = model.draw(wish.layout, wish.asked, lambda step, _: job.tell(step))
        if not wish.beside_base:
            return Outcome(wish, drawn)
        # Without the layout at any step the branch is not computed: the base itself, whatever the branch's kind.
        alone = replace(wish.asked, window=0.0)
        return Outcome(wish, drawn, model.draw(wish.layout, alone, lambda step, _: job.tell(step, steps)))

    def _model(self, folder: Path) -> Model:
        if self._loaded is None or self._loaded[0] != folder:
            self._loaded = None  # two at once may not fit
            self._loaded = folder, self._load(folder)
        return self._loaded[1]


class PipelineModel:
    """A pipeline folder with a layout branch. Its methods raise FoundryError as those of :class:`LayoutModel` do."""

    def __init__(self, folder: Path, settings: EncoderSettings) -> None:
        self._model = LayoutModel.load(folder, settings)

    def draw(self, layout: Layout, asked: Asked, tell: Tell) -> Drawn:
        """Draw a layout; also raises FoundryError where the device's memory does not suffice."""
        import torch

        from training.sampling.control import Watched

        try:
            return self._model.draw(layout, asked, Watched(tell))
        except torch.OutOfMemoryError as error:
            raise FoundryError(
                f"{asked.num_images} pictures at once do not fit in the device's memory; ask for fewer"
            ) from error


def max_boxes_of(folder: Path) -> int | None:
    """How many boxes a model takes, by its configuration alone; None where that says nothing, which loading then explains."""
    options = options_of_folder(folder)
    return None if options is None else options.max_boxes
