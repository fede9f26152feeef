"""``foundry coco-mig``: pictures and prompts from elsewhere, scored by the embedded detector and segmenter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from evaluation.tables.coco_mig import MIG_INSTANCES
from orchestration.command.main import app
from tests.evaluation.benchmarks.makers import png
from tests.evaluation.perception.composites import background, paste
from training.errors import FoundryError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red apple and a green tree where they are asked for, and a prompt for a blue apple and a tree somewhere else."""
    folder = tmp_path_factory.mktemp("coco-mig")
    (folder / "pictures").mkdir()
    canvas, apple = paste(background("plain", "white", "white"), "apple", 4, 20, 28)
    canvas, tree = paste(canvas, "tree", 36, 20, 26)
    elsewhere = [tree[0], 0.02, tree[2], 0.3]
    prompts = {
        "0": {"caption": "", "image_id": "a", "segment": [
            {"label": "a red apple", "bbox": list(apple)}, {"label": "a green tree", "bbox": list(tree)}]},
        "1": {"caption": "", "image_id": "b", "segment": [
            {"label": "a blue apple", "bbox": list(apple)}, {"label": "a green tree", "bbox": elsewhere}]},
    }  # fmt: skip
    (folder / "prompts.json").write_text(json.dumps(prompts))
    drawn = np.asarray(canvas)
    (folder / "pictures" / "some_model_0.png").write_bytes(png(drawn.repeat(2, axis=0).repeat(2, axis=1)))
    (folder / "pictures" / "1.png").write_bytes(png(drawn))
    return folder


@pytest.fixture(autouse=True)
def _own_workspace(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("FOUNDRY_PROFILE", "smoke")
    monkeypatch.setenv("FOUNDRY_HOME", str(place / "home"))


def _run(place: Path, *more: str) -> Result:
    arguments = ["--images", str(place / "pictures"), "--prompts", str(place / "prompts.json")]
    return CliRunner().invoke(app, ["coco-mig", *arguments, *more])


def test_scores_say_what_is_right(place: Path) -> None:
    out = place / "instances.parquet"
    found = _run(place, "--json", "--out", str(out))
    assert found.exception is None, found.exception
    (told,) = json.loads(found.stdout)
    assert list(told["scores"]) == ["L2", "AVG"]
    scores = told["scores"]["AVG"]
    assert scores["instance_success_rate"]["value"] == 0.5
    assert scores["success_rate"]["value"] == 0.5
    assert (scores["pictures"], scores["instances"]) == (2, 4)
    assert "embedded" in told["detector"]
    table = pq.read_table(out)
    assert table.schema.equals(MIG_INSTANCES)
    rows = table.to_pylist()
    assert [row["in_place"] for row in rows] == [True, True, True, False]
    assert [row["in_color"] for row in rows[:3]] == [True, True, False]
    counted = [row["best_iou"] for row in rows[:2]] + [0.0, rows[3]["best_iou"]]
    assert scores["mean_iou"]["value"] == pytest.approx(sum(counted) / 4)


def test_a_person_reads_who_measured(place: Path) -> None:
    found = _run(place)
    assert found.exception is None, found.exception
    assert "do not compare" in found.stdout
    assert "AVG" in found.stdout


def test_one_prompt_alone(place: Path) -> None:
    (told,) = json.loads(_run(place, "--limit", "1", "--json").stdout)
    assert told["scores"]["AVG"]["success_rate"]["value"] == 1.0


def test_mistakes_are_one_sentence(place: Path, tmp_path: Path) -> None:
    empty = CliRunner().invoke(
        app, ["coco-mig", "--images", str(tmp_path), "--prompts", str(place / "prompts.json")]
    )
    assert isinstance(empty.exception, FoundryError)
    assert "2 of 2 samples have no picture" in str(empty.exception)
