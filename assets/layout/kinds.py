"""Models that are told where things stand, shipped and trained here, as kinds of models."""

from __future__ import annotations

from assets.graph.model_kinds import RELOADS, ModelAsset, ModelCheck, ModelKind, ProfileFiles
from assets.layout.configs import LayoutEvaluationConfig, LayoutModelConfig, ShippedLayoutModelConfig
from assets.layout.definitions import LOOKED_BY, layout_evaluation, layout_model, shipped_layout_model
from assets.layout.shipped import load_shipped_layout_models
from assets.models.phases import STUDENTS
from assets.models.recipe_files import recipes_of_children
from training.recipes.specification import Recipe


def load_layout_models(files: ProfileFiles) -> dict[str, Recipe]:
    """Recipes of ``layout_models.yaml``; none without the file. Raises FoundryError for another objective."""
    return recipes_of_children(files.folder / "layout_models.yaml", "layout")


SHIPPED_LAYOUT_MODEL = ModelKind(
    ModelAsset(
        shipped_layout_model,
        ShippedLayoutModelConfig,
        (
            ModelCheck(
                "reloads",
                "The branch is the one that shipped, and answers a fixed input on its teacher as it did when it was packed.",
            ),
        ),
        in_pool=True,
    ),
    source="shipped_layout_models",
    load=load_shipped_layout_models,
    job="publish_layout_model",
    job_about="Grow a layout branch that ships with the project on its teacher, and measure whether it follows.",
    stage="layout",
    phases=(STUDENTS,),
    holds_images=False,
)
LAYOUT_MODEL = ModelKind(
    ModelAsset(layout_model, LayoutModelConfig, (RELOADS,), in_pool=True),
    source="layout_models.yaml",
    load=load_layout_models,
    job="train_layout_model",
    job_about="Train a branch that tells one frozen model where things stand, and measure whether it follows.",
    stage="layout",
    phases=("layout models",),
    trained=True,
    companions=(ModelAsset(layout_evaluation, LayoutEvaluationConfig, looks_by=LOOKED_BY),),
)
