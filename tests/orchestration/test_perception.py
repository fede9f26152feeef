"""Roles of perception from a profile: what fills them, and what is refused before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from assets.entities.definitions import annotation_inputs
from assets.graph.interfaces import Perception, PerceptionModel
from evaluation.perception.roles import Role
from orchestration.perception_profile import PerceptionProfile
from orchestration.profile import load_profile
from orchestration.resources.perception import ProfilePerception
from training.errors import FoundryError

WORLD = load_profile("smoke").world_path


def _perception(tmp_path: Path, **profile: Any) -> ProfilePerception:
    return ProfilePerception(PerceptionProfile(**profile), WORLD, tmp_path, 1)


def test_the_default_fills_every_role(tmp_path: Path) -> None:
    perception = _perception(tmp_path)
    assert isinstance(perception, Perception)
    models = {role: perception.model(role) for role in get_args(Role)}
    for role, model in models.items():
        assert isinstance(model, PerceptionModel), role
        assert len(model.digest) == 64
        assert set(model.reads) <= {"image", "regions"}
    assert len({model.digest for model in models.values() if model is not None}) == len(models)
    assert list(perception.detectors()) == ["embedded"]
    assert not list(tmp_path.iterdir()), "no bank is built and nothing is loaded for a digest"


def test_settings_change_the_digest_and_names_do_not(tmp_path: Path) -> None:
    plain = _perception(tmp_path).model("captioner")
    renamed = _perception(
        tmp_path, models={"a": {"family": "embedded"}, "embedded": {"family": "embedded"}}, captioner="a"
    ).model("captioner")
    five = _perception(tmp_path, models={"embedded": {"family": "embedded", "k": 5}}).model("captioner")
    assert plain is not None
    assert renamed is not None
    assert five is not None
    assert renamed.digest == plain.digest
    assert five.digest != plain.digest


def test_a_role_may_stay_empty(tmp_path: Path) -> None:
    assert _perception(tmp_path, masks=None).model("masks") is None


def test_two_detectors_in_their_order(tmp_path: Path) -> None:
    models = {"embedded": {"family": "embedded"}, "nano": {"family": "nanodet", "min_score": 0.4}}
    perception = _perception(tmp_path, models=models, detectors=("nano", "embedded"))
    assert list(perception.detectors()) == ["nano", "embedded"]
    first = perception.model("detector")
    assert first is not None
    assert (first.name, first.reads) == ("NanoDet-g 416 (COCO-80)", ("image",))
    turned = _perception(tmp_path, models=models, detectors=("embedded", "nano"))
    assert annotation_inputs(perception) != annotation_inputs(turned), "who annotates is in the provenance"


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"captioner": "embeded"}, "names the model 'embeded', but .* Did you mean 'embedded'"),
        (
            {"models": {"embedded": {"family": "embedded", "kk": 3}}},
            r"perception.models.embedded: unknown key 'kk'",
        ),
        ({"models": {"embedded": {"family": "embedded", "k": 9}}}, "k"),
        ({"regions": None}, "reads regions, but perception.regions is empty"),
        (
            {
                "models": {"embedded": {"family": "embedded"}, "nano": {"family": "nanodet"}},
                "captioner": "nano",
            },
            "NanoDet is a detector only",
        ),
        (
            {
                "models": {"embedded": {"family": "embedded"}, "vlm": {"family": "smolvlm", "path": "/x"}},
                "nouns": "vlm",
            },
            "'nouns' is filled by an embedded model",
        ),
        (
            {
                "models": {"embedded": {"family": "embedded"}, "vlm": {"family": "smolvm", "path": "/x"}},
                "captioner": "vlm",
            },
            "smolvlm",
        ),
        (
            {
                "models": {"embedded": {"family": "embedded"}, "sam": {"family": "sam", "path": "/x"}},
                "captioner": "sam",
            },
            "captioner",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_work_starts(
    tmp_path: Path, profile: dict[str, Any], message: str
) -> None:
    with pytest.raises(FoundryError, match=message):
        _perception(tmp_path, **profile)


def test_a_missing_checkpoint_is_named_when_its_digest_is_needed(tmp_path: Path) -> None:
    models = {
        "embedded": {"family": "embedded"},
        "vlm": {"family": "smolvlm", "path": str(tmp_path / "none")},
    }
    model = _perception(tmp_path, models=models, captioner="vlm").model("captioner")
    assert model is not None
    with pytest.raises(FoundryError, match="none"):
        _ = model.digest


def test_files_that_were_not_fetched_are_named_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUNDRY_CACHE", str(tmp_path / "cache"))
    models = {"embedded": {"family": "embedded"}, "nano": {"family": "nanodet"}}
    model = _perception(tmp_path, models=models, detectors=("nano",)).model("detector")
    assert model is not None
    with pytest.raises(FoundryError, match="foundry demo-data"):
        model.worker()
