"""Editing words for all pages of one server, on the server's one worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from assets.writing.editing import EditedPicture, edit_word
from assets.writing.text_model import OcrEngine, TextModel
from evaluation.localization.prompts import with_word
from evaluation.localization.sweep import SweepSettings
from orchestration.studio.worker import Job, Worker
from training.errors import FoundryError
from training.sampling.control import Window


@dataclass(frozen=True)
class TextWish:
    """What a page asks for: ``word`` of ``prompt`` exchanged for ``other``. ``layers``: modules or numbers with commas, empty
    for those that a sweep finds first. ``start``: share of the steps before the first that is patched."""

    name: str
    prompt: str
    word: str
    other: str
    layers: str
    start: float
    steps: int
    guidance: float
    seed: int

    def __post_init__(self) -> None:
        if not (self.word.strip() and self.other.strip()):
            raise FoundryError(
                "both words are needed: the one that the prompt has, and the one that takes its place"
            )
        with_word(self.prompt, self.word, self.other)

    @property
    def named_layers(self) -> list[str] | None:
        """The layers by name; None where a sweep is to find them."""
        return [name.strip() for name in self.layers.split(",") if name.strip()] or None


@dataclass(frozen=True)
class TextOutcome:
    """What came of a wish."""

    wish: TextWish
    edited: EditedPicture


class Writer(Protocol):
    """What draws and exchanges words; :class:`LoadedWriter`, or a stand-in."""

    def edit(self, wish: TextWish) -> EditedPicture:
        """Draw before and after."""
        ...


@dataclass(frozen=True)
class LoadedWriter:
    """A model that writes with the engine that reads."""

    model: TextModel
    engine: OcrEngine

    def edit(self, wish: TextWish) -> EditedPicture:
        """Raises FoundryError as :func:`assets.writing.editing.edit_word` does."""
        settings = SweepSettings(steps=wish.steps, guidance=wish.guidance, window=Window(wish.start))
        words = (wish.word, wish.other)
        return edit_word(self.model, self.engine, wish.prompt, words, wish.seed, settings, wish.named_layers)


class Editor:
    """Edits wishes, one after the other. ``load`` makes a writer of a model's name."""

    def __init__(self, load: Callable[[str], Writer], worker: Worker) -> None:
        self._load, self._worker = load, worker

    def begin(self, wish: TextWish) -> Job[TextOutcome]:
        """Begin as soon as nothing else goes on; the job's future has the outcome, or a FoundryError."""
        job: Job[TextOutcome] = Job(1)
        return self._worker.begin(job, lambda: self._run(job, wish))

    def _run(self, job: Job[TextOutcome], wish: TextWish) -> TextOutcome:
        job.enter("loading the model")
        writer: Writer = self._worker.loaded(("text", wish.name), lambda: self._load(wish.name))
        looks = "" if wish.named_layers else "looking for the layers that write, then "
        job.enter(f"{looks}drawing before and after")
        return TextOutcome(wish, writer.edit(wish))
