"""Backbones of a profile by their size: the largest trains first, so that no long run is left for the end."""

from __future__ import annotations

from collections.abc import Mapping

from training.errors import FoundryError
from training.recipes.specification import Recipe


def largest_first(recipes: Mapping[str, Recipe]) -> list[str]:
    """Names of recipes by descending number of parameters. Raises FoundryError for one that names no backbone."""
    return sorted(recipes, key=lambda key: parameters_of(recipes[key]), reverse=True)


def parameters_of(recipe: Recipe) -> int:
    """Parameters of a recipe's backbone. Raises FoundryError where it names none."""
    from training.backbones import count_parameters

    if recipe.backbone is None:
        raise FoundryError(
            f"Recipe '{recipe.name}' names no backbone. Add `backbone:` to it in recipes.yaml."
        )
    return count_parameters(recipe.backbone)
