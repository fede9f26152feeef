"""Who judges layouts: the models that perception has in the roles ``answers`` and ``detector``, loaded in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.graph.interfaces import Perception, PerceptionModel
from evaluation.benchmarks.detections import Detector
from evaluation.benchmarks.layoutsam_eval import Judge
from evaluation.perception.role_models import BatchFunction
from evaluation.perception.roles import Role
from training.errors import FoundryError


def judge_of(perception: Perception, settings: Mapping[str, Any] | None = None) -> Judge:
    """Who answers; ``settings`` are told beside its scores.

    Raises FoundryError where nobody does, and for a checkpoint that cannot be loaded.
    """
    model = _require(perception, "answers", "name one with --judge, or in profile.yaml: perception.answers")
    return Judge(model.name, model.digest, _worker(model), settings or {})


def detector_of(perception: Perception) -> Detector:
    """What finds boxes, with what looks for it where it reads regions: by the closest concept, if there is such.

    Raises FoundryError where there is none.
    """
    model = _require(perception, "detector", "name one in profile.yaml: perception.detectors")
    if "regions" not in model.reads:
        return Detector(model.name, _worker(model))
    looking = perception.model("closed_set") or _require(
        perception, "regions", "name one in profile.yaml: perception.closed_set or perception.regions"
    )
    return Detector(f"{model.name}, seen by {looking.name}", _worker(model), _worker(looking))


def _require(perception: Perception, role: Role, remedy: str) -> PerceptionModel:
    model = perception.model(role)
    if model is None:
        raise FoundryError(f"the profile's role '{role}' is empty; {remedy}")
    return model


def _worker(model: PerceptionModel) -> BatchFunction:
    worker = model.worker()
    answer: BatchFunction = worker.factory(**worker.kwargs)
    return answer
