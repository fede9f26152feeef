"""One generation at a time, by a model that stays loaded; each can be followed and stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from assets.layout.prompted import Asked
from orchestration.studio.drawing import Artist, PipelineModel, max_boxes_of
from orchestration.studio.worker import Job, StoppedError
from tests.orchestration.studio.stand_ins import CAT, SECONDS, Painter, wish
from training.backbones import build_backbone
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.layout.entities import Layout
from training.layout.folders import grow_branch
from training.model_folders.export import export_pipeline
from training.packaged_models import SHIPPED_AUTOENCODER
from training.recipes.layout import LayoutOptions
from training.recipes.text_encoder import EncoderSettings


@pytest.fixture
def painter() -> Painter:
    return Painter()


@pytest.fixture
def artist(painter: Painter) -> Iterator[Artist]:
    artist = Artist(painter.load)
    yield artist
    painter.let.set()
    artist.close()


def until_drawing(job: Job[Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while job.state != "drawing":
        assert time.monotonic() < deadline, job.words
        time.sleep(0.01)


def test_the_model_stays_loaded_until_another_is_asked_for(artist: Artist, painter: Painter) -> None:
    for name in ("a", "a", "b", "a"):
        artist.begin(wish(name)).future.result(SECONDS)
    assert [folder.name for folder in painter.loaded] == ["a", "b", "a"]


def test_generations_wait_for_each_other_and_say_so(artist: Artist, painter: Painter) -> None:
    painter.let.clear()
    first = artist.begin(wish())
    until_drawing(first)
    second = artist.begin(wish(seed=5))
    assert first.words.startswith("drawing step 1 of 3, ")
    assert second.words.startswith("waiting for another generation, ")
    assert (first.progress, second.progress) == (0, 0)
    painter.let.set()
    assert second.future.result(SECONDS).drawn.seeds == (5,)
    assert first.future.done()
    assert painter.most_at_once == 1
    assert first.progress == pytest.approx(2 / 3)  # the last step that began


def test_the_base_is_drawn_from_the_same_seeds_without_the_layout(artist: Artist, painter: Painter) -> None:
    outcome = artist.begin(wish(beside_base=True, seed=4, num_images=2)).future.result(SECONDS)
    assert outcome.base is not None
    assert outcome.base.seeds == outcome.drawn.seeds == (4, 5)
    assert [asked.window for asked in painter.drawn] == [1.0, 0.0]


def test_a_generation_is_stopped_between_steps_and_one_that_waits_never_begins(
    artist: Artist, painter: Painter
) -> None:
    painter.let.clear()
    first, second = artist.begin(wish()), artist.begin(wish())
    until_drawing(first)
    first.stop()
    second.stop()
    painter.let.set()
    for job in (first, second):
        with pytest.raises(StoppedError):
            job.future.result(SECONDS)
    assert painter.drawn == []
    assert artist.begin(wish()).future.result(SECONDS).drawn.seeds == (0,)


def test_closing_stops_what_is_under_way(artist: Artist, painter: Painter) -> None:
    painter.let.clear()
    job = artist.begin(wish())
    until_drawing(job)
    artist.close()
    painter.let.set()
    with pytest.raises(StoppedError):
        job.future.result(SECONDS)


def test_a_model_that_does_not_load_leaves_room_for_the_next() -> None:
    def load(folder: Path) -> Painter:
        if folder.name == "none":
            raise FoundryError("none: is no model")
        return Painter()

    artist = Artist(load)
    with pytest.raises(FoundryError, match="is no model"):
        artist.begin(wish("none")).future.result(SECONDS)
    assert artist.begin(wish("some")).future.result(SECONDS).drawn.seeds == (0,)
    artist.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "model"
    backbone = grow_branch(
        build_backbone("SD3-tiny", 0), LayoutOptions(kind="siam", max_boxes=2, phrase_dim=384)
    )
    export_pipeline(folder, backbone, SHIPPED_AUTOENCODER, Noising("flow"))
    return folder


def test_a_pipeline_folder_draws_and_tells_its_steps(model: Path) -> None:
    told: list[tuple[int, int]] = []
    drawing = PipelineModel(model, EncoderSettings())
    drawn = drawing.draw(CAT, Asked(steps=2, num_images=2), lambda *step: told.append(step))
    assert told == [(0, 2), (1, 2)]
    assert (drawn.images.shape[0], drawn.images.dtype, drawn.seeds) == (2, "uint8", (0, 1))
    with pytest.raises(FoundryError, match="3 entities found, this model takes 2"):
        drawing.draw(Layout("a cat", CAT.entities * 3), Asked(steps=1), lambda *_: None)


def test_too_little_memory_is_told_in_words(model: Path) -> None:
    def fails(*_: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(
        FoundryError, match="2 pictures at once do not fit in the device's memory; ask for fewer"
    ):
        PipelineModel(model, EncoderSettings()).draw(CAT, Asked(num_images=2), fails)


def test_how_many_boxes_a_model_takes_stands_in_its_folder(model: Path, tmp_path: Path) -> None:
    assert max_boxes_of(model) == 2
    assert max_boxes_of(tmp_path) is None
    (tmp_path / "transformer").mkdir()
    for told in ({}, {"layout": None}):
        (tmp_path / "transformer" / "config.json").write_text(json.dumps(told))
        assert max_boxes_of(tmp_path) is None
    (tmp_path / "gligen" / "unet").mkdir(parents=True)
    (tmp_path / "gligen" / "unet" / "config.json").write_text(json.dumps({"layout": {"max_boxes": 3}}))
    assert max_boxes_of(tmp_path / "gligen") == 3
