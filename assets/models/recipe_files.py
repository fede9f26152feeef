"""How recipes of trained models are read from the files of a profile, and what is refused there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.errors import FoundryError
from training.recipes.files import load_recipes
from training.recipes.specification import Recipe


def recipes_from_scratch(path: Path) -> dict[str, Recipe]:
    """Recipes of models that start from nothing. Raises FoundryError for one with a parent, or a missing file."""
    recipes = load_recipes(path)
    check_no_parents(recipes, str(path))
    return recipes


def recipes_of_children(path: Path, objective: str) -> dict[str, Recipe]:
    """Recipes of models that start from another one, all of one objective; a profile without the file has none.

    Raises FoundryError for another objective, and as :func:`training.recipes.files.load_recipes` does.
    """
    recipes = load_recipes(path) if path.exists() else {}
    for name, recipe in recipes.items():
        if recipe.objective != objective:
            raise FoundryError(
                f"{path}, recipe '{name}': 'objective' is '{recipe.objective}'; say '{objective}', "
                "or move the recipe to the file of its kind"
            )
    return recipes


def check_no_parents(recipes: Mapping[str, Recipe], where: str) -> None:
    """Refuse recipes with a parent where models are trained from scratch. Raises FoundryError naming the first."""
    for name, recipe in recipes.items():
        if recipe.parent is not None:
            raise FoundryError(
                f"{where}, recipe '{name}': 'parent' is '{recipe.parent}', but these models start from scratch; "
                "leave it out, or move the recipe to the file of its kind"
            )
