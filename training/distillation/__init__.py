"""Smaller students of trained backbones: what they keep, and which of the teacher's features they are taught by."""

from training.distillation.features import FeaturePair, FeatureTaps, feature_pairs, stages_of
from training.distillation.students import Student, build_student, student_config

__all__ = [
    "FeaturePair",
    "FeatureTaps",
    "Student",
    "build_student",
    "feature_pairs",
    "stages_of",
    "student_config",
]
