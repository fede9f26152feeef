"""Parameters of a student before it is trained: of the cut that its recipe describes, without memory."""

from __future__ import annotations

from pathlib import Path

import torch

from training.backbones import collector_paused
from training.distillation import student_config
from training.model_folders.classes import backbone_part
from training.recipes.feature_distillation import FeatureDistillationOptions
from training.recipes.specification import Recipe


def planned_parameters(recipe: Recipe, teacher: Path) -> int:
    """How many parameters the student of a teacher's folder will have.

    Raises FoundryError for a recipe of another objective and for a cut that the teacher does not allow.
    """
    options = recipe.options_of(FeatureDistillationOptions)
    part, kind = backbone_part(teacher)
    with collector_paused(), torch.device("meta"):
        whole = kind.from_config(kind.load_config(teacher / part))
        student = kind.from_config(student_config(whole, options.student))
    return sum(parameter.numel() for parameter in student.parameters())
