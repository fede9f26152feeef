"""``foundry layout`` as people and programs call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from assets.layout.prompted import Asked, draw_prompted
from orchestration.command.main import app
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import foundry
from training.errors import FoundryError
from training.layout.entities import Entity, Layout
from training.recipes.text_encoder import EncoderSettings

KEY = "sd3-tiny-siam"
BOXES = ("--box", "a red heart: 0.1,0.1,0.5,0.5", "--box", "a cat: 0.5,0.5,0.95,0.95")
CAPTION = ("--caption", "a cat and a heart", "--steps", "2")


def test_a_picture_and_its_boxes_beside_it(smoke: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    asked = (
        "layout",
        "--model",
        KEY,
        "--out",
        str(out),
        *CAPTION,
        *BOXES,
        "--num-images",
        "2",
        "--seed",
        "5",
    )
    (row,) = foundry(smoke, *asked, "--json").rows()
    assert (row["seeds"], row["images"], row["cut_phrases"]) == ([5, 6], 2, [])
    assert [entity["phrase"] for entity in row["layout"]["entities"]] == ["a red heart", "a cat"]
    width, height = Image.open(out).size
    assert min(width, height) > 512  # two rows of two tiles


def said(arguments: tuple[str, ...]) -> FoundryError:
    """What the command raises, which its ``main`` prints as a sentence."""
    outcome = CliRunner().invoke(app, ["layout", *arguments])
    assert isinstance(outcome.exception, FoundryError), outcome.output
    return outcome.exception


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to draw: give --caption and at least one --box"),
        (
            (*CAPTION, "--box", "a cat: 0.5,0.1,0.2,0.9"),
            "box of 'a cat': 0.5, 0.1, 0.2, 0.9: read as xyxy it is empty",
        ),
        ((*CAPTION, "--box", "a cat"), "write 'phrase: x1,y1,x2,y2'"),
        ((*CAPTION, "--size", "64", *BOXES), "--size is '64'; write WIDTHxHEIGHT"),
        ((*CAPTION, *BOXES, "--layout", "x.json"), "leave out --caption and --box"),
        (("--layout", "none.json"), "none.json: cannot be read"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    assert told in str(said(("--model", KEY, "--out", str(tmp_path / "x.png"), *arguments)))


def test_a_model_that_is_not_there_is_told_with_those_that_are(
    smoke: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in smoke.environment().items():
        monkeypatch.setenv(name, value)
    error = said(("--model", "none", "--out", str(tmp_path / "x.png"), *CAPTION, *BOXES))
    assert "no partition of shipped_layout_model or layout_model; there are: sd3-tiny-siam" in str(error)


@pytest.fixture(scope="module")
def model(smoke: Workspace) -> Path:
    return ManifestStore(smoke.store).local_folder("layout_model", KEY)


def layout_of(count: int = 1) -> Layout:
    return Layout("a cat", (Entity("a cat", (0.1, 0.1, 0.6, 0.6)),) * count)


def draw(model: Path, layout: Layout | None = None, **asked: Any) -> np.ndarray:
    settings = Asked(steps=2, guidance=2.0, **asked)
    return draw_prompted(model, layout or layout_of(), EncoderSettings(), settings).images


def test_seeds_count_on_and_strength_and_window_switch_the_branch_off(model: Path) -> None:
    both = draw(model, num_images=2, seed=5)
    alone = draw(model, seed=6)
    assert (
        np.abs(both[1:].astype(int) - alone.astype(int)).max() <= 1
    )  # a batch of another size rounds otherwise
    assert not np.array_equal(draw(model, strength=0.0), draw(model))
    assert np.array_equal(draw(model, strength=0.0), draw(model, window=0.0))


def test_models_and_layouts_that_do_not_fit_are_refused(smoke: Workspace, model: Path) -> None:
    base = ManifestStore(smoke.store).local_folder("backbone", "sd3-tiny")
    with pytest.raises(FoundryError, match="has no layout branch, so boxes cannot be told"):
        draw(base)
    with pytest.raises(FoundryError, match="5 entities found, this model takes 4; leave out 'a cat'"):
        draw(model, layout_of(5))
    with pytest.raises(FoundryError, match=r"window is 1\.5"):
        draw(model, window=1.5)
    long = Layout("a cat", (Entity("very " * 60 + "cat", (0.1, 0.1, 0.6, 0.6)),))
    drawn = draw_prompted(model, long, EncoderSettings(), Asked(steps=1))
    assert drawn.cut_phrases == (long.entities[0].phrase,)
