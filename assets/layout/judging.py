"""Who judges layouts: the models that perception has in the roles ``answers`` and ``detector``, loaded in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assets.graph.asking import answer_of, required
from assets.graph.interfaces import Perception
from evaluation.benchmarks.detections import Detector
from evaluation.benchmarks.layoutsam_eval import Judge
from evaluation.benchmarks.mig_scoring import Segmenter


def judge_of(perception: Perception, settings: Mapping[str, Any] | None = None) -> Judge:
    """Who answers; ``settings`` are told beside its scores.

    Raises FoundryError where nobody does, and for a checkpoint that cannot be loaded.
    """
    model = required(perception, "answers", "name one with --judge, or in profile.yaml: perception.answers")
    return Judge(model.name, model.digest, answer_of(model), settings or {})


def segmenter_of(perception: Perception) -> Segmenter:
    """What draws masks, with what looks for it where it reads regions. Raises FoundryError where there is none."""
    model = required(perception, "masks")
    if "regions" not in model.reads:
        return Segmenter(model.name, answer_of(model))
    return Segmenter(model.name, answer_of(model), answer_of(required(perception, "regions")))


def detector_of(perception: Perception) -> Detector:
    """What finds boxes, with what looks for it where it reads regions: by the closest concept, if there is such.

    Raises FoundryError where there is none.
    """
    model = required(perception, "detector", "name one in profile.yaml: perception.detectors")
    if "regions" not in model.reads:
        return Detector(model.name, answer_of(model))
    looking = perception.model("closed_set") or required(perception, "regions")
    return Detector(f"{model.name}, seen by {looking.name}", answer_of(model), answer_of(looking))
