"""What was drawn, on the page: every picture, the same with its boxes, and the base beside it."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from nicegui import ui
from PIL import Image

from orchestration.studio.drawing import Outcome
from orchestration.studio.overlay import overlay

SHOWN_PX = 230
MOST_CARDS = 6
"""Generations that stay on a page; older ones go, for every picture is kept for it."""


class Results:
    """Generations, the newest first."""

    def __init__(self) -> None:
        self._column = ui.column().classes("w-full gap-4")

    def add(self, outcome: Outcome) -> None:
        """Show what was drawn above what was before."""
        with self._column, ui.card().classes("w-full") as card:
            _told(outcome)
            with ui.row().classes("gap-6"):
                for place, seed in enumerate(outcome.drawn.seeds):
                    _pictures(outcome, place, seed)
        card.move(target_index=0)
        cards = list(self._column)
        for old in cards[MOST_CARDS:]:
            self._column.remove(old)


def _told(outcome: Outcome) -> None:
    asked, layout = outcome.wish.asked, outcome.wish.layout
    seconds = outcome.drawn.seconds + (0 if outcome.base is None else outcome.base.seconds)
    settings = (
        f"strength {asked.strength:g} · window {asked.window:g} · guidance {asked.guidance:g} · {asked.steps} steps · "
        f"{len(layout.entities)} boxes · {outcome.wish.name} · {seconds:.1f} s"
    )
    with ui.row().classes("w-full items-center"):
        with ui.column().classes("gap-0 grow"):
            ui.label(layout.caption or "(no caption)").classes("text-base font-medium")
            ui.label(settings).classes("text-sm text-gray-600").mark("settings")
        ui.button("Sheet", icon="download", on_click=lambda: _download(outcome)).props("flat dense no-caps")
    for phrase in outcome.drawn.cut_phrases:
        ui.label(f"'{phrase}' fills the text encoder; its end may be lost").classes("text-amber-800")


def _pictures(outcome: Outcome, place: int, seed: int) -> None:
    picture = outcome.drawn.images[place]
    _picture(picture, f"seed {seed}")
    _picture(picture, "with its boxes", overlay(outcome.wish.layout.entities, is_result=True))
    if outcome.base is not None:
        _picture(outcome.base.images[place], "the base, same noise")


def _picture(image: UInt8[np.ndarray, "h w 3"], told: str, content: str = "") -> None:
    small = "studio-pixels" if max(image.shape[:2]) < SHOWN_PX else ""
    with ui.column().classes("gap-1 items-center"):
        shown = ui.interactive_image(Image.fromarray(image), content=content)
        shown.classes(f"studio-picture {small}").style(f"width: {SHOWN_PX}px").mark("picture")
        ui.label(told).classes("text-xs text-gray-600")


def _download(outcome: Outcome) -> None:
    buffer = io.BytesIO()
    outcome.drawn.sheet(outcome.wish.layout).save(buffer, format="PNG")
    ui.download.content(buffer.getvalue(), "layout.png", "image/png")
