"""The page as a person uses it, without a browser: drawn by mouse, typed, generated, saved and loaded."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from nicegui import ui
from nicegui.elements.upload_files import SmallFileUpload
from nicegui.testing import User, user_simulation

from orchestration.studio.drawing import Artist
from orchestration.studio.editing import Editor
from orchestration.studio.overlay import SIDE
from orchestration.studio.page import NO_LAYOUT_FILE, Page, Studio
from orchestration.studio.results import MOST_CARDS
from orchestration.studio.state import Point
from orchestration.studio.text_panel import TextStudio
from tests.orchestration.studio.stand_ins import Painter, Scribe
from training.errors import FoundryError
from training.layout.entities import parse_layout

PATIENCE = 100
"""Tries of 0.1 s: other tests run beside."""


@dataclass
class Person:
    """Who looks at the page, and the server behind it."""

    user: User
    painter: Painter
    pages: list[Page] = field(default_factory=list)
    scribe: Scribe = field(default_factory=Scribe)

    def element(self, marker: str) -> Any:
        (element,) = self.user.find(marker=marker).elements
        return element

    def drag(self, *points: Point) -> None:
        kinds = ["pointerdown", *["pointermove"] * (len(points) - 2), "pointerup"]
        for kind, (x, y) in zip(kinds, points, strict=True):
            told = {"mouse_event_type": kind, "image_x": x * SIDE, "image_y": y * SIDE}
            self.user.find(marker="canvas").trigger("mouse", told)

    def type(self, marker: str, text: str) -> None:
        self.user.find(marker=marker).clear().type(text)

    def set(self, marker: str, value: float | None) -> None:
        self.element(marker).value = value

    def click(self, marker: str) -> None:
        self.user.find(marker=marker).click()

    async def sees(self, told: str) -> None:
        await self.user.should_see(told, retries=PATIENCE)

    async def upload(self, content: bytes, name: str = "layout.json") -> None:
        file = SmallFileUpload(name, "application/json", content)
        await self.element("upload").handle_uploads([file])

    def pictures(self) -> int:
        return len(self.user.find(ui.interactive_image).elements) - 1  # beside the canvas


def visit(
    use: Callable[[Person], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
    names: Sequence[str] = ("model",),
    folder: Callable[[str], Path] = Path,
) -> None:
    """Open the page and use it; an error that a handler did not catch fails the test."""

    async def opened(pictures: Path) -> None:
        painter = Painter()
        artist, written = Artist(painter.load), Scribe()
        text = TextStudio(
            Editor(written.load, artist.worker), lambda: {"writer": "blocks.2, blocks.3", "other": ""}
        )
        studio = Studio(artist, lambda: names, folder, pictures, text)
        pages: list[Page] = []
        async with user_simulation(root=lambda: pages.append(Page(studio))) as user:
            await user.open("/")
            await use(Person(user, painter, pages, written))
            assert not [record for record in caplog.records if record.levelname == "ERROR"]
        painter.let.set()
        studio.artist.close()

    with tempfile.TemporaryDirectory() as pictures:
        asyncio.run(opened(Path(pictures)))


def test_a_layout_is_drawn_typed_and_generated(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        await person.sees("No boxes yet.")
        person.type("caption", "a cat and a dog")
        person.drag((0.1, 0.1), (0.3, 0.3), (0.5, 0.6))
        await person.sees("0.1, 0.1, 0.5, 0.6")
        person.type("phrase-0", "a cat")
        person.drag((0.9, 0.9), (0.6, -3))
        person.type("phrase-1", "a dog")
        await person.sees("0.6, 0, 0.9, 0.9")
        assert all(phrase in person.element("canvas").content for phrase in ("a cat", "a dog"))
        person.set("steps", 2)
        person.set("window", 0.5)
        person.set("num_images", 2)
        person.click("beside")
        person.click("generate")
        await person.sees("strength 1 · window 0.5 · guidance 3 · 2 steps · 2 boxes · model · 1.0 s")
        await person.sees("seed 1")
        assert person.pictures() == 2 * 3
        assert [asked.window for asked in person.painter.drawn] == [0.5, 0.0]
        await person.user.should_not_see(marker="complaint")
        person.click("generate")
        await asyncio.sleep(1)
        assert person.pictures() == 2 * 2 * 3
        assert person.painter.loaded == [Path("model")]
        for seed in range(MOST_CARDS):
            person.set("seed", 100 + seed)
            person.click("generate")
            await person.sees(f"seed {100 + seed}")
        assert person.pictures() == MOST_CARDS * 2 * 3  # the oldest went
        assert len(list(person.pages[0].studio.pictures.glob("*/*/*.png"))) == MOST_CARDS * 4

    visit(use, caplog)


def test_mistakes_are_told_in_the_page_and_nothing_is_drawn(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"layout": {"max_boxes": 1}}))

    async def use(person: Person) -> None:
        person.drag((0.1, 0.1), (0.5, 0.5))
        person.click("generate")
        await person.sees("box 1 has no phrase; say what should stand in it, or delete it")
        person.type("phrase-0", "a cat")
        person.type("numbers", "a dog: 0.5,0.1,0.2,0.9")
        person.click("add")
        await person.sees("box of 'a dog': 0.5, 0.1, 0.2, 0.9: read as xyxy it is empty or inverted")
        person.type("numbers", "a dog: 0.5,0.1,0.9,0.9")
        person.click("add")
        await person.user.should_not_see(marker="complaint", retries=PATIENCE)
        person.click("generate")
        await person.sees("2 entities found, this model takes 1; leave out 'a dog'")
        person.click("delete-1")
        person.set("seed", None)
        person.click("generate")
        await person.sees("seed is empty; give a number from 0 to")
        assert person.painter.loaded == []
        person.set("seed", 3)
        person.click("generate")
        await person.sees("seed 3")

    visit(use, caplog, folder=lambda _: tmp_path)


def test_phrases_that_are_cut_are_told_beside_the_pictures(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        person.type("numbers", f"{'very ' * 30}big cat: 0,0,1,1")
        person.click("add")
        person.click("generate")
        await person.sees("big cat' fills the text encoder; its end may be lost")

    visit(use, caplog)


def test_a_layout_is_saved_and_loaded_again(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        person.type("caption", "ein Käfer")
        person.drag((0.25, 0.25), (0.75, 0.5))
        person.click("save")
        await person.sees("box 1 has no phrase")
        person.type("phrase-0", "ein roter Käfer")
        person.click("save")
        saved = (await person.user.download.next(timeout=10)).content
        assert parse_layout(saved, "it") == person.pages[0].board.layout()
        person.click("delete-0")
        person.type("caption", "another")
        await person.upload(saved)
        await person.sees("0.25, 0.25, 0.75, 0.5")
        assert person.element("caption").value == "ein Käfer"
        assert person.element("phrase-0").value == "ein roter Käfer"
        await person.upload(b'{"caption": 3, "entities": []}', "broken.json")
        await person.sees("broken.json: caption is 3; give a text")
        assert person.element("phrase-0").value == "ein roter Käfer"
        person.user.find(marker="upload").trigger("rejected")
        await person.sees(NO_LAYOUT_FILE)

    visit(use, caplog)


def test_a_generation_is_followed_and_stopped(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        person.painter.let.clear()
        await person.user.should_not_see(marker="stop")
        person.click("generate")
        await person.sees("drawing step 1 of 16")
        assert not person.element("generate").enabled
        person.drag((0.1, 0.1), (0.5, 0.5))  # the page is not blocked
        await person.sees("0.1, 0.1, 0.5, 0.5")
        person.click("stop")
        person.painter.let.set()
        await person.user.should_not_see(marker="stop", retries=PATIENCE)
        assert (person.element("generate").enabled, person.pictures()) == (True, 0)
        assert person.painter.drawn == []

    visit(use, caplog)


def test_a_tab_that_is_closed_stops_its_generation(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        person.painter.let.clear()
        person.click("generate")
        await person.sees("drawing step 1 of 16")
        job = person.pages[0].job
        assert job is not None
        assert person.user.client is not None
        person.user.client.delete()
        person.painter.let.set()
        for _ in range(PATIENCE):
            await asyncio.sleep(0.05)
            if job.future.done() and person.pages[0].job is None:
                break
        assert job.future.exception() is not None
        assert list(person.pages[0].studio.pictures.iterdir()) == []
        assert person.painter.drawn == []

    visit(use, caplog)


def test_without_a_model_layouts_are_drawn_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        await person.sees("This workspace has no layout model that passed its gate")
        person.drag((0.1, 0.1), (0.5, 0.5))
        await person.sees("0.1, 0.1, 0.5, 0.5")
        person.click("generate")
        await person.sees("no model is chosen")

    visit(use, caplog, names=())


def test_a_model_that_is_gone_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def gone(name: str) -> Path:
        raise FoundryError(f"'{name}' was collected")

    async def use(person: Person) -> None:
        person.click("generate")
        await person.sees("'model' was collected")

    visit(use, caplog, folder=gone)


def test_what_nobody_foresaw_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(name: str) -> Path:
        raise ZeroDivisionError(name)

    async def use(person: Person) -> None:
        person.click("generate")
        await person.sees("something unexpected happened: ZeroDivisionError('model')")
        assert person.element("generate").enabled
        assert [record.exc_info for record in caplog.records if record.levelname == "ERROR"]
        caplog.clear()

    visit(use, caplog, folder=broken)


def test_a_word_is_exchanged_in_the_other_tab(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        person.click("tab-text")
        await person.sees("Becomes")
        assert person.element("text-layers").value == "blocks.2, blocks.3"  # as the stored sweep chose
        person.type("text-prompt", 'a blue sign that says "GO"')
        person.type("text-from", "GO")
        person.type("text-to", "NO")
        person.set("text-start", 0.1)
        person.set("text-seed", 7)
        person.click("text-go")
        await person.sees("NO: read 'no'")
        await person.sees(
            "GO to NO · layers blocks.2, blocks.3 · from 10% of 16 steps on · guidance 1 · seed 7 · writer"
        )
        assert len(person.user.find(marker="text-picture").elements) == 2
        (asked,) = person.scribe.edited
        assert asked.named_layers == ["blocks.2", "blocks.3"]
        person.element("text-model").value = "other"
        await asyncio.sleep(0.2)
        assert person.element("text-layers").value == ""
        person.click("text-go")
        await asyncio.sleep(1)
        assert person.scribe.edited[1].named_layers is None
        assert person.scribe.loaded == ["writer", "other"]
        await person.user.should_not_see(marker="complaint")

    visit(use, caplog)


def test_mistakes_about_words_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def use(person: Person) -> None:
        person.click("tab-text")
        person.type("text-from", "SHUT")
        person.click("text-go")
        await person.sees("holds 'SHUT' 0 times")
        person.type("text-from", "STOP")
        person.user.find(marker="text-to").clear()
        person.click("text-go")
        await person.sees("both words are needed")
        person.set("text-seed", None)
        person.type("text-to", "OPEN")
        person.click("text-go")
        await person.sees("'seed' is empty")
        person.set("text-seed", 0)
        person.scribe.error = "text layer 'blocks.9' is not in this model"
        person.click("text-go")
        await person.sees("text layer 'blocks.9' is not in this model")
        assert person.scribe.edited == []

    visit(use, caplog)
