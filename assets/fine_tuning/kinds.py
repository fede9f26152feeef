"""Models that are trained on from a parent's weights, as a kind of model."""

from __future__ import annotations

from assets.fine_tuning.configs import FineTunedConfig
from assets.fine_tuning.definitions import fine_tuned_backbone
from assets.fine_tuning.parents import reference_version
from assets.graph.model_kinds import RELOADS, ModelAsset, ModelCheck, ModelKind, ProfileFiles
from assets.models.recipe_files import recipes_of_children
from training.errors import FoundryError
from training.recipes.specification import Recipe


def load_fine_tuned(files: ProfileFiles) -> dict[str, Recipe]:
    """Recipes of ``fine_tuned.yaml``; none without the file. Raises FoundryError for one without a parent."""
    path = files.folder / "fine_tuned.yaml"
    recipes = recipes_of_children(path, "diffusion")
    for name, recipe in recipes.items():
        if recipe.parent is None:
            raise FoundryError(
                f"{path}, recipe '{name}': 'parent' is missing; name the model that is trained on, or move the recipe to "
                "recipes.yaml"
            )
    return recipes


FINE_TUNED = ModelKind(
    ModelAsset(
        fine_tuned_backbone,
        FineTunedConfig,
        (
            RELOADS,
            ModelCheck(
                "score_within_margin",
                "The judge's score is at most 10% below that of the parent (of the whole model where the parent was "
                "pruned), or the interval does not tell.",
                blocking=False,
            ),
        ),
        in_pool=True,
    ),
    source="fine_tuned.yaml",
    load=load_fine_tuned,
    job="fine_tune",
    job_about="Train one model on from its parent's weights, all or adapters, and hold the two side by side.",
    stage="students",
    phases=("fine-tuning and recovery",),
    also_reads=reference_version,
    trained=True,
)
