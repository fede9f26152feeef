"""Models that draw at once, or only when they are let."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from assets.layout.prompted import Asked, Drawn
from assets.writing.editing import EditedPicture
from evaluation.localization.prompts import WordPair
from orchestration.studio.drawing import Tell, Wish
from orchestration.studio.editing import TextWish
from training.errors import FoundryError
from training.layout.entities import Entity, Layout

CAT = Layout("a cat", (Entity("a cat", (0.1, 0.1, 0.5, 0.5)),))
SECONDS = 20


def wish(folder: str = "model", *, beside_base: bool = False, **asked: int) -> Wish:
    return Wish(folder, Path(folder), CAT, Asked(**{"steps": 3, **asked}), beside_base=beside_base)


class Painter:
    """Paints grey; waits before every step for ``let``, which is set unless a test clears it."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.let.set()
        self.loaded: list[Path] = []
        self.drawn: list[Asked] = []
        self.at_once = self.most_at_once = 0

    def load(self, folder: Path) -> Painter:
        self.loaded.append(folder)
        return self

    def draw(self, layout: Layout, asked: Asked, tell: Tell) -> Drawn:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for step in range(asked.steps):
                tell(step, asked.steps)
                assert self.let.wait(SECONDS)
        finally:
            self.at_once -= 1
        self.drawn.append(asked)
        seeds = tuple(range(asked.seed, asked.seed + asked.num_images))
        cut = tuple(entity.phrase for entity in layout.entities if len(entity.phrase) > 100)
        return Drawn(np.full((asked.num_images, 8, 8, 3), 127, np.uint8), seeds, cut, 0.5)


class Scribe:
    """Writes nothing, and says what it was asked; ``error`` is raised instead."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.edited: list[TextWish] = []
        self.error: str | None = None

    def load(self, name: str) -> Scribe:
        self.loaded.append(name)
        return self

    def edit(self, wish: TextWish) -> EditedPicture:
        if self.error is not None:
            raise FoundryError(self.error)
        self.edited.append(wish)
        grey = np.full((8, 16, 3), 127, np.uint8)
        pair = WordPair(wish.prompt, wish.prompt, wish.word, wish.other, wish.seed)
        read, layers = (wish.word.lower(), wish.other.lower()), tuple(wish.named_layers or ("blocks.0",))
        return EditedPicture(pair, grey, grey, *read, layers, 0.9, 30.0, 0.5, "a scribe")
