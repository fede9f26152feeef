"""Phases of the demo that several kinds of models share, by their titles."""

BACKBONES = "training backbones and judge"
STUDENTS = "students, pruned models and the scaling grid"
