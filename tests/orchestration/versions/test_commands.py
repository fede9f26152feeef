"""The commands over versions as a person types them: tables for people, JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.command.main import app
from orchestration.resources.store import ManifestStore
from orchestration.workspace import workspace_from_environment
from tests.orchestration.versions.small_graph import PICTURES, SmallGraph
from training.errors import FoundryError

APPLE = PICTURES[0]


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallGraph:
    monkeypatch.setenv("FOUNDRY_HOME", str(tmp_path))
    monkeypatch.setenv("FOUNDRY_PROFILE", "smoke")
    made = SmallGraph(ManifestStore(workspace_from_environment().store))
    made.build()
    made.build(word="green")
    return made


def say(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_json_is_json_and_nothing_else(graph: SmallGraph) -> None:
    for arguments in (
        ["versions", "recaptions"],
        ["diff", "recaptions"],
        ["diff", "backbone", "--partition", "xs"],
        ["gc", "--keep", "1", "--grace-minutes", "0"],
        ["impact", APPLE.image_id],
        ["remove", APPLE.image_id],
        ["lineage", "backbone", "xs"],
        ["lineage", "training_shards", "--sample", APPLE.sample_id],
        ["sql", "SELECT count(*) AS n FROM recaptions"],
    ):
        assert isinstance(json.loads(say(*arguments, "--json")), list)


def test_versions_and_differences_are_told(graph: SmallGraph) -> None:
    shown = say("versions", "recaptions", "--partition", "g0")
    assert "previous, first" in shown
    told = say("diff", "recaptions")
    assert "4 -> 4; 0 added, 0 removed, 4 changed, 0 unchanged" in told.replace("rows: ", "")
    assert "changed: caption in 4" in told
    assert "because: setting word 'red' -> 'green' (2 partitions)" in told
    assert "a red apple -> a green apple" in told
    old = graph.store.versions("recaptions", "g0")[0].digest[:8]
    assert "a red apple" in say("sql", "SELECT caption FROM recaptions", "--version", f"recaptions={old}")


def test_gc_shows_before_it_removes(graph: SmallGraph) -> None:
    before = len(graph.store.files.walk("recaptions"))
    shown = say("gc", "--keep", "1", "--grace-minutes", "0")
    assert "Nothing was removed. To remove" in shown
    assert len(graph.store.files.walk("recaptions")) == before
    assert "Removed" in say("gc", "--keep", "1", "--grace-minutes", "0", "--yes")
    assert "collected" in say("versions", "recaptions")
    assert "nothing to show" in say("gc", "--keep", "1", "--grace-minutes", "0")


def test_a_removed_image_is_told_wherever_it_matters(graph: SmallGraph) -> None:
    assert "trained on" in say("impact", "web/apple")
    told = say("remove", APPLE.image_id, "--because", "asked")
    assert f"image {APPLE.image_id}: removed" in told
    assert "landing folders are not touched" in told
    assert f"made from removed image {APPLE.image_id}" in say("lineage", "backbone", "xs")
    assert "removed already" in say("remove", APPLE.image_id)
    assert "allowed again" in say("remove", APPLE.image_id, "--undo")
    assert "removed image" not in say("lineage", "backbone", "xs")


def test_a_caption_leads_back_to_its_model(graph: SmallGraph) -> None:
    record = json.loads(say("lineage", "training_shards", "--sample", APPLE.sample_id[:12], "--json"))[0]
    assert record["image"]["license"] == "CC0-1.0"
    assert [caption["model"] for caption in record["captions"]] == [None, "writer"]


def test_mistakes_are_sentences(graph: SmallGraph) -> None:
    for arguments, message in (
        (["versions", "nothing"], "no table or folder 'nothing'"),
        (["diff", "recaptions", "ffffff"], "none has both 'ffffff' and 'current'"),
        (["impact", "xyz"], "'xyz' is neither an image file"),
        (["accept-version", "nothing", "--because", "x"], "no asset 'nothing'"),
        (["lineage", "backbone", "xs", "--sample", "abc"], "holds no list of samples"),
    ):
        with pytest.raises(FoundryError, match=message):
            CliRunner().invoke(app, arguments, catch_exceptions=False)
