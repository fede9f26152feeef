"""The tab of words: prompt, word, layers, before and after."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from nicegui import ui
from PIL import Image

from orchestration.studio.editing import Editor, TextOutcome, TextWish
from orchestration.studio.worker import Job, StoppedError
from training.errors import FoundryError

SHOWN_PX = 320
MOST_CARDS = 6
SECONDS_BETWEEN_LOOKS = 0.2
EXAMPLE = 'a red sign that says "STOP"'


@dataclass(frozen=True)
class TextStudio:
    """What all pages share. ``models``: names that can be chosen now, each with the layers that write, empty before a sweep."""

    editor: Editor
    models: Callable[[], Mapping[str, str]]


class TextPanel:
    """One browser tab's panel. ``complain`` shows a sentence above everything, None takes it away."""

    def __init__(self, studio: TextStudio, pictures: Path, complain: Callable[[str | None], None]) -> None:
        self.studio, self._complain, self._folder = studio, complain, pictures
        self.job: Job[TextOutcome] | None = None
        self._cards: list[tuple[ui.card, list[Path]]] = []
        self._count = 0
        with ui.row().classes("w-full gap-6 items-start"):
            self._words_column()
            self._settings_column()
        self._results = ui.column().classes("w-full gap-4")
        self._busy(None)

    def _words_column(self) -> None:
        with ui.column().classes("gap-2 grow").style("min-width: 320px; max-width: 640px"):
            self._prompt = ui.input("Prompt", value=EXAMPLE).classes("w-full").mark("text-prompt")
            with ui.row().classes("w-full no-wrap gap-4"):
                self._word = ui.input("Word", value="STOP").classes("grow").mark("text-from")
                self._other = ui.input("Becomes", value="OPEN").classes("grow").mark("text-to")
            self._layers = (
                ui.input(
                    "Layers that write",
                    placeholder="modules or numbers, with commas; empty: a sweep finds them",
                )
                .classes("w-full")
                .mark("text-layers")
            )

    def _settings_column(self) -> None:
        models = dict(self.studio.models())
        with ui.column().classes("gap-2").style("width: 300px"):
            first = next(iter(models), None)
            self._model = ui.select(list(models), label="Model", value=first, on_change=self._chosen)
            self._model.classes("w-full").mark("text-model")
            if not models:
                ui.label(
                    "This workspace has no model that draws by prompts and passed its gate: materialize shipped_writer, or start "
                    "with foundry studio --text-model FOLDER."
                ).classes("text-sm text-amber-800")
            self._start = ui.number("Start", value=0.2, min=0, max=0.95, step=0.05).mark("text-start")
            ui.label(
                "share of the steps before the first that is patched: later keeps more, and writes less"
            ).classes("text-xs text-gray-600")
            with ui.row().classes("w-full no-wrap gap-2"):
                self._steps = ui.number("Steps", value=16, min=1, max=200, step=1, precision=0).mark(
                    "text-steps"
                )
                self._guidance = ui.number("Guidance", value=1.0, min=0, max=30, step=0.5).mark(
                    "text-guidance"
                )
                self._seed = ui.number("Seed", value=0, min=0, step=1, precision=0).mark("text-seed")
            with ui.row().classes("w-full items-center gap-2"):
                self._go = (
                    ui.button("Exchange", icon="edit", on_click=self._edited).props("no-caps").mark("text-go")
                )
                self._stop = (
                    ui.button("Stop", icon="stop", on_click=self.stop).props("flat no-caps").mark("text-stop")
                )
            self._status = ui.label().classes("text-sm text-gray-600").mark("text-status")
        self._chosen()

    def _chosen(self) -> None:
        """The layers that a stored sweep chose for the model."""
        self._layers.value = self.studio.models().get(self._model.value or "", "")

    def stop(self) -> None:
        """End what is under way before its next part."""
        if self.job is not None:
            self.job.stop()

    async def _edited(self) -> None:
        if self.job is not None:
            return
        self._complain(None)
        try:
            self.job = self.studio.editor.begin(self._wish())
            while not self.job.future.done():
                self._busy(self.job.words)
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            self._add(self.job.future.result())
        except StoppedError:
            pass
        except FoundryError as error:
            self._complain(str(error))
        finally:
            self.job = None
            self._busy(None)

    def _wish(self) -> TextWish:
        if self._model.value is None:
            raise FoundryError("no model is chosen; choose one that writes")
        numbers = {
            name: field.value
            for name, field in (
                ("start", self._start), ("steps", self._steps), ("guidance", self._guidance), ("seed", self._seed)
            )
        }  # fmt: skip
        missing = [name for name, value in numbers.items() if value is None]
        if missing:
            raise FoundryError(f"'{missing[0]}' is empty; give a number")
        return TextWish(
            self._model.value,
            self._prompt.value or "",
            self._word.value or "",
            self._other.value or "",
            self._layers.value or "",
            float(numbers["start"]),
            int(numbers["steps"]),
            float(numbers["guidance"]),
            int(numbers["seed"]),
        )

    def _busy(self, told: str | None) -> None:
        self._status.text = told or ""
        self._go.set_enabled(told is None)
        for element in (self._stop, self._status):
            element.set_visibility(told is not None)

    def _add(self, outcome: TextOutcome) -> None:
        """Show before and after above what was before."""
        edited, wish = outcome.edited, outcome.wish
        self._count += 1
        files = [self._folder / f"text-{self._count}-{side}.png" for side in ("before", "after")]
        for path, image in zip(files, (edited.before, edited.after), strict=True):
            _save(image, path)
        with self._results, ui.card().classes("w-full") as card:
            with ui.row().classes("w-full items-center"):
                with ui.column().classes("gap-0 grow"):
                    ui.label(wish.prompt).classes("text-base font-medium")
                    ui.label(_told(outcome)).classes("text-sm text-gray-600").mark("text-told")
                ui.button("Sheet", icon="download", on_click=lambda: _download(outcome)).props(
                    "flat dense no-caps"
                )
            with ui.row().classes("no-wrap gap-2"):
                _picture(files[0], f"{wish.word}: read '{edited.read_before}'")
                _picture(files[1], f"{wish.other}: read '{edited.read_after}'")
        card.move(target_index=0)
        self._cards.append((card, files))
        while len(self._cards) > MOST_CARDS:
            old, its_files = self._cards.pop(0)
            old.delete()
            for path in its_files:
                path.unlink()


def _told(outcome: TextOutcome) -> str:
    edited, wish = outcome.edited, outcome.wish
    layers = ", ".join(edited.layers)
    return (
        f"{wish.word} to {wish.other} · layers {layers} · from {wish.start:.0%} of {wish.steps} steps on · guidance "
        f"{wish.guidance:g} · seed {wish.seed} · {wish.name} · SSIM outside text {edited.ssim:.3f} · {edited.seconds:.1f} s"
    )


def _save(image: UInt8[np.ndarray, "h w 3"], path: Path) -> None:
    """Small pictures are enlarged without smoothing."""
    times = max(1, -(-SHOWN_PX // max(image.shape[:2])))
    Image.fromarray(image.repeat(times, axis=0).repeat(times, axis=1)).save(path)


def _picture(path: Path, told: str) -> None:
    with ui.column().classes("gap-1 items-center"):
        shown: Any = ui.interactive_image(path)
        shown.style(f"width: {SHOWN_PX}px; border: 1px solid #d1d5db").mark("text-picture")
        ui.label(told).classes("text-xs text-gray-600")


def _download(outcome: TextOutcome) -> None:
    buffer = io.BytesIO()
    outcome.edited.sheet().save(buffer, format="PNG")
    ui.download.content(buffer.getvalue(), "edited.png", "image/png")
