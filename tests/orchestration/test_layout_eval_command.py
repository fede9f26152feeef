"""``foundry layout-eval``: pictures and a benchmark from elsewhere; one sentence for a mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from evaluation.tables.layout_eval import LAYOUT_ANSWERS
from orchestration.command.main import app
from tests.evaluation.benchmarks.makers import png, published_row, write_parquet
from tests.evaluation.perception.composites import background, paste
from tests.evaluation.perception.hub.checkpoints import qwen2_5_vl
from training.errors import FoundryError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of 640 x 480 pixels, its pictures drawn at 128 x 128: an apple where told, no dog."""
    folder = tmp_path_factory.mktemp("layout-eval")
    (folder / "pictures").mkdir()
    canvas, apple = paste(background("plain", "white", "white"), "apple", 4, 20, 28)
    canvas, tree = paste(canvas, "tree", 36, 20, 26)
    drawn = canvas.repeat(2, axis=0).repeat(2, axis=1)
    boxes = [[side * (640, 480)[index % 2] for index, side in enumerate(box)] for box in (apple, tree)]
    texts = ["a red apple", "a dog"]
    row = published_row(
        "p0", bbox_list=repr(boxes), region_captions=repr(texts), detail_region_captions=repr(texts),
        width=640, height=480, image={"bytes": png(np.asarray(canvas)), "path": "p0.jpg"},
    )  # fmt: skip
    write_parquet(folder / "benchmark" / "test-00000-of-00001.parquet", [row])
    (folder / "pictures" / "p0.png").write_bytes(png(drawn))
    return folder


@pytest.fixture(autouse=True)
def _own_workspace(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("FOUNDRY_PROFILE", "smoke")
    monkeypatch.setenv("FOUNDRY_HOME", str(place / "home"))


def _run(place: Path, *more: str, benchmark: str = "benchmark") -> Result:
    arguments = ["layout-eval", "--images", str(place / "pictures"), "--benchmark", str(place / benchmark)]
    return CliRunner().invoke(app, [*arguments, *more])


def test_json_answers_and_figures(place: Path) -> None:
    out = place / "answers.parquet"
    found = _run(place, "--json", "--boxes", "--out", str(out))
    assert found.exception is None, found.exception
    (told,) = json.loads(found.stdout)
    scores = {row["metric"]: row for row in told["scores"]}
    assert {name: row["value"] for name, row in scores.items()} == {
        "spatial": 0.5, "color": 0.5, "texture": 0.5, "shape": 0.5,
    }  # fmt: skip
    assert (scores["color"]["num_asked"], scores["color"]["num_boxes"], told["boxes"]) == (1, 2, 2)
    assert told["judge_settings"]["family"] == "embedded"
    figures = {row["figure"]: row["value"] for row in told["figures"]}
    assert figures["IoU recall at .5"] == 0.5
    answers = pq.read_table(out)
    assert answers.schema.names == LAYOUT_ANSWERS.names
    assert answers["spatial_answer"].to_pylist() == ["Yes", "No"]


def test_a_judge_by_path(place: Path, tmp_path: Path) -> None:
    judge = qwen2_5_vl(tmp_path / "tiny-judge")
    found = _run(place, "--json", "--judge", str(judge), "--dtype", "float32")
    assert found.exception is None, found.exception
    (told,) = json.loads(found.stdout)
    assert told["judge"] == "tiny-judge"
    table = _run(place, "--judge", str(judge), "--dtype", "float32")
    assert "spatial" in table.stdout
    assert "do not compare" in " ".join(table.stdout.split())
    assert told["judge_settings"] == {
        "family": "qwen2_5_vl", "path": str(judge), "dtype": "float32",
        "decoding": {"mode": "greedy", "max_new_tokens": 16},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--judge", "nobody/knows-it", "--family", "qwen"], r"'family' is 'qwen'"),
        (["--judge", "./nowhere"], r"path './nowhere': no such folder"),
        (["--clip", "./nowhere"], r"path './nowhere': no such folder"),
    ],
)
def test_mistakes_are_told(place: Path, more: list[str], message: str) -> None:
    found = _run(place, *more)
    assert isinstance(found.exception, FoundryError)
    with pytest.raises(FoundryError, match=message):
        raise found.exception


def test_missing_pictures_are_told_before_a_judge_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import judging

    def refuse(*_: Any) -> None:
        raise AssertionError("nobody is loaded")

    monkeypatch.setattr(judging, "judge_of", refuse)
    write_parquet(place / "more.parquet", [published_row("p0"), published_row("p1")])
    found = _run(place, benchmark="more.parquet")
    assert isinstance(found.exception, FoundryError)
    assert "1 of 2 samples have no picture, such as p1.jpg" in str(found.exception)
