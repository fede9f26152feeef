"""Models that are told where things stand, as a kind of model."""

from __future__ import annotations

from assets.graph.model_kinds import RELOADS, ModelAsset, ModelKind, ProfileFiles
from assets.layout.configs import LayoutModelConfig
from assets.layout.definitions import layout_model
from assets.models.recipe_files import recipes_of_children
from training.recipes.specification import Recipe


def load_layout_models(files: ProfileFiles) -> dict[str, Recipe]:
    """Recipes of ``layout_models.yaml``; none without the file. Raises FoundryError for another objective."""
    return recipes_of_children(files.folder / "layout_models.yaml", "layout")


LAYOUT_MODEL = ModelKind(
    ModelAsset(layout_model, LayoutModelConfig, (RELOADS,), in_pool=True),
    source="layout_models.yaml",
    load=load_layout_models,
    job="train_layout_model",
    job_about="Train a branch that tells one frozen model where things stand, and measure whether it follows.",
    stage="students",
    phases=("layout models",),
    trained=True,
)
