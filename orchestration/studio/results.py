"""What was drawn, on the page: every picture, the same with its boxes, and the base beside it."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from nicegui import ui
from PIL import Image

from orchestration.studio.drawing import Outcome
from orchestration.studio.overlay import overlay

SHOWN_PX = 200
MOST_CARDS = 6
"""Generations that stay on a page; older ones go, for every picture is kept for it."""


class Results:
    """Generations, the newest first; their pictures lie in ``folder`` as long as they are shown."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._column = ui.column().classes("w-full gap-4")
        self._cards: list[tuple[ui.card, Path]] = []

    def add(self, outcome: Outcome) -> None:
        """Show what was drawn above what was before."""
        files = Path(tempfile.mkdtemp(dir=self._folder))
        with self._column, ui.card().classes("w-full") as card:
            _told(outcome)
            with ui.row().classes("gap-6"):
                for place, seed in enumerate(outcome.drawn.seeds):
                    _pictures(outcome, place, seed, files)
        card.move(target_index=0)
        self._cards.append((card, files))
        while len(self._cards) > MOST_CARDS:
            old, its_files = self._cards.pop(0)
            old.delete()
            shutil.rmtree(its_files)


def _told(outcome: Outcome) -> None:
    asked, count = outcome.wish.asked, len(outcome.wish.layout.entities)
    seconds = outcome.drawn.seconds + (0 if outcome.base is None else outcome.base.seconds)
    settings = (
        f"strength {asked.strength:g} · window {asked.window:g} · guidance {asked.guidance:g} · {asked.steps} steps · "
        f"{count} {'box' if count == 1 else 'boxes'} · {outcome.wish.name} · {seconds:.1f} s"
    )
    with ui.row().classes("w-full items-center"):
        with ui.column().classes("gap-0 grow"):
            ui.label(outcome.wish.layout.caption or "(no caption)").classes("text-base font-medium")
            ui.label(settings).classes("text-sm text-gray-600")
        ui.button("Sheet", icon="download", on_click=lambda: _download(outcome)).props("flat dense no-caps")
    for phrase in outcome.drawn.cut_phrases:
        ui.label(f"'{phrase}' fills the text encoder; its end may be lost").classes("text-amber-800")


def _pictures(outcome: Outcome, place: int, seed: int, folder: Path) -> None:
    drawn = _saved(outcome.drawn.images[place], folder / f"{place}.png")
    with ui.row().classes("no-wrap gap-2"):
        _picture(drawn, f"seed {seed}")
        _picture(drawn, "with its boxes", overlay(outcome.wish.layout.entities, is_result=True))
        if outcome.base is not None:
            _picture(_saved(outcome.base.images[place], folder / f"{place}-base.png"), "the base, same noise")


def _saved(image: UInt8[np.ndarray, "h w 3"], path: Path) -> Path:
    """The picture as a file; small ones are enlarged without smoothing, so that what the model made is what is seen."""
    times = max(1, -(-SHOWN_PX // max(image.shape[:2])))
    Image.fromarray(image.repeat(times, axis=0).repeat(times, axis=1)).save(path)
    return path


def _picture(path: Path, told: str, content: str = "") -> None:
    with ui.column().classes("gap-1 items-center"):
        shown = ui.interactive_image(path, content=content)
        shown.style(f"width: {SHOWN_PX}px; border: 1px solid #d1d5db").mark("picture")
        ui.label(told).classes("text-xs text-gray-600")


def _download(outcome: Outcome) -> None:
    buffer = io.BytesIO()
    outcome.drawn.sheet(outcome.wish.layout).save(buffer, format="PNG")
    ui.download.content(buffer.getvalue(), "layout.png", "image/png")
