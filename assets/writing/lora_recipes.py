"""Recipes of adapters on the layers that write: how they are read, and which sweep names their layers. Light: no torch."""

from __future__ import annotations

from collections.abc import Sequence

from assets.graph.model_kinds import ModelRecipes, ProfileFiles, Version
from assets.models.recipe_files import recipes_of_children
from training.errors import FoundryError
from training.recipes.specification import Recipe
from training.recipes.text_layers import LOCATED

LORA, LAYERS = "localized_lora", "text_layer_localization"


def load_localized_loras(files: ProfileFiles) -> dict[str, Recipe]:
    """Recipes of ``localized_loras.yaml``; none without the file. Raises FoundryError for one without parent or adapters."""
    path = files.folder / "localized_loras.yaml"
    recipes = recipes_of_children(path, "diffusion")
    for name, recipe in recipes.items():
        missing = next((field for field in ("parent", "lora") if getattr(recipe, field) is None), None)
        if missing is not None:
            raise FoundryError(
                f"{path}, recipe '{name}': '{missing}' is missing; name the model that is adapted and give its adapters, such as "
                f"lora: {{rank: 4, targets: [{LOCATED}]}}"
            )
    return recipes


def sweep_version(recipes: ModelRecipes, name: str) -> Version:
    """The sweep over a recipe's parent, which names the layers that write and the prompts.

    Raises FoundryError where the profile has none.
    """
    parent = recipes.of(LORA)[name].parent
    for sweep, recipe in recipes.of(LAYERS).items():
        if recipe.parent == parent:
            return LAYERS, sweep
    raise FoundryError(
        f"profile {recipes.profile}: recipe '{name}' of {LORA} adapts '{parent}', whose layers no recipe of text_layers.yaml "
        "sweeps; add one"
    )


def resolved_targets(recipe: Recipe, layers: Sequence[str]) -> Recipe:
    """The recipe with the modules of the layers that write in place of ``located``."""
    assert recipe.lora is not None
    targets = [
        name for target in recipe.lora.targets for name in (layers if target == LOCATED else (target,))
    ]
    return recipe.model_copy(update={"lora": recipe.lora.model_copy(update={"targets": tuple(targets)})})
