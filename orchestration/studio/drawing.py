"""Drawing layouts for all pages of one server, on the server's one :class:`orchestration.studio.worker.Worker`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from assets.layout.prompted import Asked, Drawn, LayoutModel
from orchestration.studio.worker import Job, Worker
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


class Artist:
    """Draws wishes, one after the other. ``load`` makes a model of a pipeline folder."""

    def __init__(self, load: Callable[[Path], Model], worker: Worker | None = None) -> None:
        self._load, self.worker = load, worker or Worker()

    def begin(self, wish: Wish) -> Job[Outcome]:
        """Begin as soon as nothing else goes on; the job's future has the outcome, or a FoundryError."""
        job: Job[Outcome] = Job(wish.asked.steps * (2 if wish.beside_base else 1))
        return self.worker.begin(job, lambda: self._run(job, wish))

    def close(self) -> None:
        """Stop what is under way, and begin nothing more."""
        self.worker.close()

    def _run(self, job: Job[Outcome], wish: Wish) -> Outcome:
        steps = wish.asked.steps
        job.enter("loading the model")
        model: Model = self.worker.loaded(("layout", wish.folder), lambda: self._load(wish.folder))
        job.enter("reading the texts")
        drawn = model.draw(wish.layout, wish.asked, lambda step, _: job.tell(step))
        if not wish.beside_base:
            return Outcome(wish, drawn)
        # Without the layout at any step the branch is not computed: the base itself, whatever the branch's kind.
        alone = replace(wish.asked, window=0.0)
        return Outcome(wish, drawn, model.draw(wish.layout, alone, lambda step, _: job.tell(step, steps)))


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
