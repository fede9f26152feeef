"""The models that score a layout benchmark, out of a profile or by path, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assets.layout.judging import detector_of, judge_of, segmenter_of
from evaluation.benchmarks.detections import Detector
from evaluation.benchmarks.layoutsam_eval import Judge
from evaluation.benchmarks.mig_scoring import Segmenter
from orchestration.perception_profile import PerceptionProfile
from orchestration.profile import load_profile
from orchestration.resources.perception import ProfilePerception
from orchestration.workspace import Workspace

JUDGE_TOKENS = 16
"""Tokens of an answer of a judge by path: it is asked for one word."""


def perception_of(place: Workspace, section: PerceptionProfile) -> ProfilePerception:
    """Perception of a workspace by its profile's section, or by one in which a command named another model."""
    profile = load_profile(place.profile)
    return ProfilePerception(
        section, profile.world_path, place.root / "cache", profile.compute.threads_per_worker
    )


class Judging:
    """A profile's judge, detector and segmenter.

    Args:
        place: whose profile, and whose cache of fitted banks and digests.
        judge: name of one of the profile's models, or folder or hub id; None for what the profile names.
        family: of a judge by path, one of :data:`evaluation.perception.hub.families.FAMILIES`.
        dtype: of a judge by path.
    """

    def __init__(
        self, place: Workspace, judge: str | None = None, family: str = "qwen2_5_vl", dtype: str = "bf16"
    ) -> None:
        named = load_profile(place.profile).perception
        section, self._settings = _section(named, judge, family, dtype)
        self._perception = perception_of(place, section)

    def judge(self) -> Judge:
        """Who answers, loaded. Raises FoundryError where the profile names none, and for a checkpoint that cannot be loaded."""
        return judge_of(self._perception, self._settings)

    def detector(self) -> Detector:
        """What finds boxes, loaded, with what looks for it where it reads regions: by the closest concept, if there is such."""
        return detector_of(self._perception)

    def segmenter(self) -> Segmenter:
        """What draws masks, loaded. Raises FoundryError where the profile names nobody."""
        return segmenter_of(self._perception)


def _section(
    profile: PerceptionProfile, judge: str | None, family: str, dtype: str
) -> tuple[PerceptionProfile, dict[str, Any]]:
    """The profile's perception with the judge in it, and the judge's settings as they are told."""
    if judge is None:
        names = profile.model_dump()["answers"]
        return profile, dict(profile.models.get(names, {})) if names else {}
    if judge in profile.models:
        return profile.model_copy(update={"answers": judge}), dict(profile.models[judge])
    settings = {
        "family": family, "path": judge, "dtype": dtype, "decoding": {"mode": "greedy", "max_new_tokens": JUDGE_TOKENS}
    }  # fmt: skip
    name = Path(judge).name
    models = {**profile.models, name: settings}
    return profile.model_copy(update={"models": models, "answers": name}), settings
