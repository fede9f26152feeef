"""The page: elements, and what happens when one is used. What they mean is in :mod:`orchestration.studio.state`."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicegui import events, run, ui

from orchestration.studio.drawing import Artist, Outcome, Wish, max_boxes_of
from orchestration.studio.overlay import SIDE, color_of, overlay
from orchestration.studio.results import Results
from orchestration.studio.state import RANGES, Board, asked_of
from orchestration.studio.text_panel import TextPanel, TextStudio
from orchestration.studio.worker import Job, StoppedError
from training.errors import FoundryError
from training.layout.entities import Entity

CANVAS_PX = 480
LARGEST_FILE_BYTES = 1_000_000
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_RECONNECT = 30.0
"""How long a page is kept whose browser does not answer; with it goes the layout that was drawn on it."""
STYLE = """
.studio-canvas { cursor: crosshair; touch-action: none; user-select: none; border: 1px solid #9ca3af; background: white
  linear-gradient(#e5e7eb 1px, transparent 1px) 0 0 / 100% 10%; }
.studio-canvas::before { content: ''; position: absolute; inset: 0; pointer-events: none; background:
  linear-gradient(90deg, #e5e7eb 1px, transparent 1px) 0 0 / 10% 100%; }
"""
MOUSE_WHILE_DOWN = "(told) => { if (told.mouse_event_type !== 'pointermove' || told.buttons) emit(told); }"
"""Moves without a button held down stay in the browser."""
KEEP_MOUSE = "(event) => event.target.setPointerCapture(event.pointerId)"
"""A drag goes on outside of the canvas, where the state cuts it."""
NO_LAYOUT_FILE = f"a layout file ends in .json and has at most {LARGEST_FILE_BYTES:,} bytes; choose another"
EXAMPLE = "a red car: 0.1,0.5,0.4,0.9"


@dataclass(frozen=True)
class Studio:
    """What all pages of a server share.

    ``names`` are the models that can be chosen now, ``folder`` says where one lies; ``pictures`` takes what is drawn. ``text``:
    the same for words in pictures.
    """

    artist: Artist
    names: Callable[[], Sequence[str]]
    folder: Callable[[str], Path]
    pictures: Path
    text: TextStudio


class Page:
    """One browser tab, with a layout of its own."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.board = studio, Board()
        self._pictures = Path(tempfile.mkdtemp(dir=studio.pictures))
        self.fields: dict[str, Any] = {}
        self.job: Job[Outcome] | None = None
        self._left = False
        ui.add_css(STYLE)
        ui.page_title("Foundry studio")
        ui.on_exception(self._unexpected)
        ui.context.client.on_delete(self._leave)
        with ui.column().classes("w-full max-w-screen-2xl mx-auto p-2 gap-4"):
            self._complaint = (
                ui.label().classes("w-full rounded bg-red-100 text-red-900 p-3").mark("complaint")
            )
            with ui.tabs().props("dense no-caps align=left") as tabs:
                layout, text = ui.tab("Layout").mark("tab-layout"), ui.tab("Text").mark("tab-text")
            with ui.tab_panels(tabs, value=layout, animated=False, keep_alive=True).classes("w-full"):
                with ui.tab_panel(layout).classes("p-0 gap-4"):
                    with ui.row().classes("w-full gap-6 items-start"):
                        self._canvas_column()
                        self._boxes_column()
                        self._settings_column()
                    self._results = Results(self._pictures)
                with ui.tab_panel(text).classes("p-0 gap-4"):
                    self.text = TextPanel(studio.text, self._pictures, self._complain)
        self._complain(None)
        self._redraw()

    # -- what is there ---------------------------------------------------------------------------------

    def _canvas_column(self) -> None:
        with ui.column().classes("gap-2").style(f"width: {CANVAS_PX}px"):
            caption = ui.input(
                "Caption", placeholder="what the whole picture shows", on_change=self._captioned
            )
            self._caption = caption.classes("w-full").mark("caption")
            kinds = ["pointerdown", "pointermove", "pointerup", "pointercancel"]
            self._canvas = ui.interactive_image(size=(SIDE, SIDE), events=kinds).mark("canvas")
            self._canvas.classes("studio-canvas w-full").on("pointerdown", js_handler=KEEP_MOUSE)
            self._canvas.on("mouse", self._mouse, js_handler=MOUSE_WHILE_DOWN)
            ui.label(
                "Drag to draw a box. Click one to select it; then drag it, or one of its corners."
            ).classes("text-xs text-gray-600")

    def _boxes_column(self) -> None:
        with ui.column().classes("gap-2 grow").style("min-width: 320px; max-width: 480px"):
            self._rows = ui.column().classes("w-full gap-1")
            with ui.row().classes("w-full items-center no-wrap"):
                self._numbers = (
                    ui.input("Add by numbers", placeholder=EXAMPLE).classes("grow").mark("numbers")
                )
                self._numbers.on("keydown.enter", self._add_numbers)
                ui.button(icon="add", on_click=self._add_numbers).props("flat round").mark("add")
            with ui.row().classes("gap-2"):
                ui.button("Save layout", icon="download", on_click=self._save).props("outline no-caps").mark(
                    "save"
                )
                self._loader()

    def _loader(self) -> None:
        upload = ui.upload(
            on_upload=self._load,
            on_rejected=lambda: self._complain(NO_LAYOUT_FILE),
            max_file_size=LARGEST_FILE_BYTES,
            auto_upload=True,
        )
        self._upload = upload.props("accept=.json").classes("hidden").mark("upload")
        button = ui.button("Load layout", icon="upload").props("outline no-caps")
        # In the browser, for one opens its file dialog only while it still handles the click.
        button.on("click", js_handler=f"() => runMethod({upload.id}, 'pickFiles', [])")

    def _settings_column(self) -> None:
        names = list(self.studio.names())
        with ui.column().classes("gap-2").style("width: 300px"):
            first = names[0] if names else None
            self._model = ui.select(names, label="Model", value=first).classes("w-full").mark("model")
            if not names:
                ui.label(
                    "This workspace has no layout model that passed its gate: materialize one, or start with foundry studio "
                    "--model FOLDER. Layouts can be drawn and saved all the same."
                ).classes("text-sm text-amber-800")
            self._slider("strength", 1.0, "of the branch; 0 is the base", 0.05)
            self._slider("window", 1.0, "share of the steps that are told the layout", 0.05)
            self._slider("guidance", 3.0, "from no text, no layout; 1 is none", 0.5)
            with ui.row().classes("w-full no-wrap gap-2"):
                self._number("steps", 16, "Steps")
                self._number("seed", 0, "Seed")
                self._number("num_images", 1, "Pictures")
            self._beside = ui.checkbox("beside the base, from the same noise").mark("beside")
            self._buttons()

    def _slider(self, name: str, value: float, about: str, step: float) -> None:
        least, most = RANGES[name]
        with ui.row().classes("w-full no-wrap items-baseline gap-2"):
            ui.label(name.capitalize()).classes("font-medium")
            ui.label(about).classes("text-xs text-gray-600 grow")
            shown = ui.label().classes("font-medium")
        slider = ui.slider(min=least, max=most, step=step, value=value).classes("w-full px-2").mark(name)
        shown.bind_text_from(slider, "value", lambda now: f"{now:g}")
        self.fields[name] = slider

    def _number(self, name: str, value: int, label: str) -> None:
        least, most = RANGES[name]
        field = ui.number(label, value=value, min=least, max=most, step=1, precision=0)
        self.fields[name] = field.classes("w-1/3").mark(name)

    def _buttons(self) -> None:
        with ui.row().classes("w-full items-center gap-2"):
            self._generate = (
                ui.button("Generate", icon="brush", on_click=self._generated)
                .props("no-caps")
                .mark("generate")
            )
            self._stop = (
                ui.button("Stop", icon="stop", on_click=self._stopped).props("flat no-caps").mark("stop")
            )
        self._progress = ui.linear_progress(0.0, show_value=False).props("instant-feedback")
        self._status = ui.label().classes("text-sm text-gray-600").mark("status")
        self._busy(None)

    # -- the layout ------------------------------------------------------------------------------------

    def _mouse(self, event: events.GenericEventArguments) -> None:
        told = event.args
        point = (told["image_x"] / SIDE, told["image_y"] / SIDE)
        kind = told["mouse_event_type"]
        if kind == "pointermove":
            self.board.move(point)
            self._repaint()
            return
        is_new = False
        if kind == "pointerdown":
            self.board.press(point)
        elif kind == "pointerup":
            is_new = self.board.release(point)
        else:
            self.board.cancel()
        self._redraw(focus=is_new)

    def _captioned(self, event: events.ValueChangeEventArguments) -> None:
        self.board.caption = event.value or ""

    def _add_numbers(self) -> None:
        try:
            self.board.add_text(self._numbers.value or "")
        except FoundryError as error:
            self._complain(str(error))
            return
        self._numbers.value = ""
        self._complain(None)
        self._redraw()

    def _save(self) -> None:
        try:
            content = self.board.file()
        except FoundryError as error:
            self._complain(str(error))
            return
        self._complain(None)
        ui.download.content(content, "layout.json", "application/json")

    async def _load(self, event: events.UploadEventArguments) -> None:
        content = await event.file.read()
        self._upload.reset()
        try:
            self.board.load(content, event.file.name)
        except FoundryError as error:
            self._complain(str(error))
            return
        self._complain(None)
        self._caption.value = self.board.caption
        self._redraw()

    def _repaint(self) -> None:
        self._canvas.content = overlay(self.board.boxes, self.board.selected, self.board.preview)

    def _redraw(self, *, focus: bool = False) -> None:
        """Canvas and list anew; ``focus`` puts the cursor where the selected box's phrase is typed."""
        self._repaint()
        self._rows.clear()
        with self._rows:
            if not self.board.boxes:
                ui.label("No boxes yet.").classes("text-gray-600")
            for number, entity in enumerate(self.board.boxes):
                field = self._row(number, entity)
                if focus and number == self.board.selected:
                    field.run_method("focus")

    def _row(self, number: int, entity: Entity) -> ui.input:
        chosen = "bg-blue-50" if number == self.board.selected else ""
        with ui.row().classes(f"w-full no-wrap items-center gap-2 rounded px-2 {chosen}"):
            ui.element("div").classes("rounded w-4 h-4 shrink-0").style(f"background: {color_of(number)}")
            with ui.column().classes("gap-0 grow"):
                field = ui.input(
                    placeholder="what stands here",
                    value=entity.phrase,
                    on_change=lambda event: self._rename(number, event.value),
                )
                field.props("dense borderless").classes("w-full").mark(f"phrase-{number}")
                ui.label(", ".join(f"{value:g}" for value in entity.box_xyxy_norm)).classes(
                    "text-xs text-gray-600 font-mono"
                )
            ui.button(icon="delete", on_click=lambda: self._remove(number)).props("flat round dense").mark(
                f"delete-{number}"
            )
        return field

    def _rename(self, number: int, phrase: str | None) -> None:
        self.board.rename(number, phrase or "")
        self._repaint()

    def _remove(self, number: int) -> None:
        self.board.remove(number)
        self._redraw()

    # -- drawing ---------------------------------------------------------------------------------------

    async def _generated(self) -> None:
        if self.job is not None:
            return
        self._complain(None)
        self._busy("looking for the model")
        try:
            wish = await self._wish()
            self.job = self.studio.artist.begin(wish)
            outcome = await self._followed(self.job)
            if not self._left:
                self._results.add(outcome)
        except StoppedError:
            pass
        except FoundryError as error:
            self._complain(str(error))
        finally:
            self.job = None
            self._busy(None)

    async def _wish(self) -> Wish:
        name: str | None = self._model.value
        if name is None:
            raise FoundryError("no model is chosen; choose one that draws the layout")
        asked = asked_of({name: field.value for name, field in self.fields.items()})
        folder = await run.io_bound(self.studio.folder, name)
        if folder is None:  # the server is stopping
            raise StoppedError("stopped")
        layout = self.board.layout(max_boxes_of(folder))
        return Wish(name, folder, layout, asked, beside_base=self._beside.value)

    async def _followed(self, job: Job[Outcome]) -> Outcome:
        while not job.future.done():
            self._busy(job.words, job.progress)
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        return job.future.result()

    def _busy(self, told: str | None, progress: float = 0.0) -> None:
        self._status.text = told or ""
        self._progress.value = progress
        self._generate.set_enabled(told is None)
        for element in (self._stop, self._progress, self._status):
            element.set_visibility(told is not None)

    def _stopped(self) -> None:
        if self.job is not None:
            self.job.stop()

    def _leave(self) -> None:
        """The tab is closed: nobody would see what is drawn for it."""
        self._left = True
        self._stopped()
        self.text.stop()
        shutil.rmtree(self._pictures)

    # -- what went wrong -------------------------------------------------------------------------------

    def _complain(self, told: str | None) -> None:
        self._complaint.text = told or ""
        self._complaint.set_visibility(told is not None)

    def _unexpected(self, error: Exception) -> None:
        self._complain(f"something unexpected happened: {error!r}; the terminal of foundry studio says where")


def serve(studio: Studio, host: str, port: int) -> None:
    """Serve pages until interrupted. Nothing is fetched from elsewhere, nothing is sent."""
    from nicegui import app

    app.on_shutdown(studio.artist.close)
    ui.run(
        lambda: Page(studio),
        host=host,
        port=port,
        title="Foundry studio",
        favicon=FAVICON,
        reconnect_timeout=SECONDS_TO_RECONNECT,
        reload=False,
        show=False,
        show_welcome_message=False,
    )


FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect x="1" y="3" width="5" height="6" fill="none" '
    'stroke="#e6194b"/><rect x="5" y="1" width="4" height="5" fill="none" stroke="#006edc"/></svg>'
)
