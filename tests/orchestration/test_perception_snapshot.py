"""Names, digests and refusals of perception as they were written down once.

Digests stand in stored rows: one that changes by itself makes everything stale that the model ever said. Whoever
changes what a model answers raises its version and writes the new digest here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestration.perception_profile import PerceptionProfile
from orchestration.profile import load_profile
from orchestration.resources.perception import ProfilePerception
from training.errors import FoundryError
from training.recipes.validation import validate

SNAPSHOT: dict[str, Any] = json.loads(
    Path(__file__).with_name("perception_snapshot.json").read_text(encoding="utf-8")
)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "k3": {"k": 3},
    "seed7": {"seed": 7},
    "similarity": {"min_similarity": 0.7},
    "grounding": {"min_grounding": 0.2},
    "mask_iou": {"min_mask_iou": 0.5},
}
NANODET_SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "score": {"min_score": 0.4},
    "overlap": {"max_overlap_iou": 0.3},
}


def _perception(
    folder: Path, settings: dict[str, Any], profile: str = "smoke", **roles: Any
) -> ProfilePerception:
    models = {"embedded": {"family": "embedded"}} | settings
    world = load_profile(profile).world_path
    return ProfilePerception(PerceptionProfile(models=models, **roles), world, folder, 1)


def _read(section: dict[str, Any], folder: Path) -> ProfilePerception:
    profile = validate(PerceptionProfile, section, "profile.yaml: perception")
    return ProfilePerception(profile, load_profile("smoke").world_path, folder, 1)


@pytest.mark.parametrize("case", SNAPSHOT["embedded"])
def test_embedded_models_are_who_they_were(tmp_path: Path, case: str) -> None:
    profile, variant = case.split("/")
    perception = _perception(tmp_path, {"embedded": {"family": "embedded", **SETTINGS[variant]}}, profile)
    for role, expected in SNAPSHOT["embedded"][case].items():
        model = perception.model(role)
        assert model is not None
        assert [model.name, model.digest, list(model.reads)] == expected, role


@pytest.mark.parametrize("case", SNAPSHOT["nanodet"])
def test_the_packaged_detector_is_who_it_was(tmp_path: Path, case: str) -> None:
    nano = {"family": "nanodet", **NANODET_SETTINGS[case]}
    model = _perception(tmp_path, {"nano": nano}, detectors=("nano",)).model("detector")
    assert model is not None
    assert [model.name, model.digest, list(model.reads)] == SNAPSHOT["nanodet"][case]


@pytest.mark.parametrize(("section", "message"), SNAPSHOT["errors"])
def test_what_is_refused_is_refused_in_these_words(
    tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    with pytest.raises(FoundryError) as refused:
        _read(section, tmp_path)
    assert str(refused.value).startswith(message), "lists of roles and families may grow at their end"
