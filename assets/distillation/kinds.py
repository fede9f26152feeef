"""Shipped teachers and students, as kinds of models."""

from __future__ import annotations

from assets.distillation.configs import (
    DistillationStudyConfig,
    DistilledConfig,
    StepDistilledConfig,
    TeacherConfig,
)
from assets.distillation.definitions import (
    distillation_study,
    distilled_backbone,
    step_distilled_backbone,
    teacher_backbone,
)
from assets.distillation.shipped_teachers import load_teachers
from assets.graph.model_kinds import RELOADS, ModelAsset, ModelCheck, ModelKind, ProfileFiles
from assets.models.phases import STUDENTS
from assets.models.recipe_files import recipes_of_children
from training.recipes.distillation_study import DistillationStudy, load_study, study_recipes
from training.recipes.specification import Recipe


def load_step_distilled(files: ProfileFiles) -> dict[str, Recipe]:
    """Recipes of ``step_distilled.yaml``; none without the file."""
    return recipes_of_children(files.folder / "step_distilled.yaml", "step_distillation")


def load_distilled(files: ProfileFiles) -> dict[str, Recipe]:
    """Recipes of ``distilled.yaml``, and the trainings of the profile's study; none without the files."""
    recipes = recipes_of_children(files.folder / "distilled.yaml", "feature_distillation")
    study = profile_study(files)
    return recipes if study is None else {**recipes, **study_recipes(study)}


def profile_study(files: ProfileFiles) -> DistillationStudy | None:
    """The study of ``distillation_study.yaml``; None without the file."""
    return files.read("distillation_study.yaml", load_study)


TEACHER = ModelKind(
    ModelAsset(
        teacher_backbone,
        TeacherConfig,
        (
            ModelCheck(
                "reloads",
                "The files are those that shipped, and answer a fixed input as they did when they were packed.",
            ),
        ),
    ),
    source="teachers",
    load=load_teachers,
    job="publish_teacher",
    job_about="Publish one of the trained backbones that ship with the project.",
    stage="students",
    phases=("shipped teachers",),
    holds_images=False,
)
STEP_DISTILLED = ModelKind(
    ModelAsset(step_distilled_backbone, StepDistilledConfig, (RELOADS,), in_pool=True),
    source="step_distilled.yaml",
    load=load_step_distilled,
    job="distil_steps",
    job_about="Distil one few-step student from its teacher and hold the two side by side.",
    stage="students",
    phases=(STUDENTS,),
    trained=True,
)
DISTILLED = ModelKind(
    ModelAsset(
        distilled_backbone,
        DistilledConfig,
        (
            RELOADS,
            ModelCheck(
                "parameters_as_planned",
                "The model has exactly the parameters of the cut that its recipe describes.",
            ),
            ModelCheck(
                "score_within_margin",
                "The judge's score is at most 10% below the teacher's, or the interval does not tell; a warning with "
                "gate_score off.",
            ),
        ),
        in_pool=True,
    ),
    source="distilled.yaml",
    load=load_distilled,
    job="distil_features",
    job_about="Cut one smaller student out of its teacher, teach it by features, and hold the two side by side.",
    stage="students",
    phases=(STUDENTS, "smaller students of few-step ones"),
    trained=True,
    companions=(ModelAsset(distillation_study, DistillationStudyConfig),),
)
