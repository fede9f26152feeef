"""Recipes to plan by name: those of a profile, its grid's points, or a whole profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.workspace import PROFILES_FOLDER
from training.errors import FoundryError
from training.recipes.files import load_recipes, read_yaml
from training.recipes.specification import Recipe
from training.recipes.validation import nearest

MACHINE_KEYS = (
    "gpus",
    "gpu",
    "strategy",
    "batch_per_gpu",
    "precision",
    "checkpointing",
    "mfu",
    "price",
    "images",
)


@dataclass(frozen=True)
class Wanted:
    """What a table has a row for: a recipe, and how many trainings are like it but for data and seed."""

    label: str
    recipe: Recipe
    runs: int = 1


def profile_names() -> list[str]:
    """Profiles with recipes, which can be planned."""
    return sorted(path.parent.name for path in PROFILES_FOLDER.glob("*/recipes.yaml"))


def profile_folder(name: str) -> Path:
    """Raises FoundryError for a profile that is not there, with the nearest known one."""
    if name not in profile_names():
        raise FoundryError(f"there is no profile '{name}'; {nearest(name, profile_names())}")
    return PROFILES_FOLDER / name


def machine_settings(profile: str) -> dict[str, Any]:
    """The profile's own machine, from ``plan.yaml``. Raises FoundryError for an unknown key."""
    path = profile_folder(profile) / "plan.yaml"
    if not path.exists():
        return {}
    settings: Mapping[str, Any] = read_yaml(path).get("machine") or {}
    for key in settings:
        if key not in MACHINE_KEYS:
            raise FoundryError(f"{path}: unknown key 'machine.{key}'; {nearest(key, MACHINE_KEYS)}")
    return dict(settings)


def find_recipe(name: str, profile: str) -> Recipe:
    """A recipe or grid point of a profile. Raises FoundryError with the nearest recipe or profile."""
    recipes = _recipes(profile)
    if name in recipes:
        return recipes[name]
    points = _grid_points(profile, name)
    if name in points:
        return points[name]
    _check_is_no_child(name, profile)
    known = [*recipes, *profile_names()]
    raise FoundryError(
        f"profile '{profile}' has no recipe '{name}', and there is no profile of that name; {nearest(name, known)}"
        + (" Name a recipe's profile with --profile." if name not in known else "")
    )


def _check_is_no_child(name: str, profile: str) -> None:
    """Raises FoundryError for a model that is made from another one."""
    from assets.models.kinds import MODEL_KINDS

    for kind in MODEL_KINDS:
        path = profile_folder(profile) / kind.source
        recipe = load_recipes(path).get(name) if kind.trained and path.exists() else None
        if recipe is not None and recipe.parent is not None:
            raise FoundryError(
                f"'{name}' of {path.name} is made from '{recipe.parent}', and only trainings from scratch are planned; "
                "plan the recipe of recipes.yaml that it comes from"
            )


def wanted_of(profile: str) -> list[Wanted]:
    """All recipes of a profile, and its grid by size and length, with the number of points of each."""
    rows = [Wanted(name, recipe) for name, recipe in _recipes(profile).items()]
    counted: dict[tuple[str, int], Wanted] = {}
    for name, recipe in _grid_points(profile).items():
        key = (str(recipe.backbone), recipe.images_total)
        label = f"grid.{name.split('.')[1]}"
        before = counted.get(key)
        counted[key] = Wanted(label, recipe, before.runs + 1 if before else 1)
    return rows + list(counted.values())


def _recipes(profile: str) -> dict[str, Recipe]:
    return load_recipes(profile_folder(profile) / "recipes.yaml")


def _grid_points(profile: str, only: str | None = None) -> dict[str, Recipe]:
    """Points of the grid as recipes; none without ``grid.yaml``."""
    path = profile_folder(profile) / "grid.yaml"
    if not path.exists():
        return {}
    from training.backbones import macs_per_image
    from training.recipes.grid import load_grid, recipe_of

    grid = load_grid(path)
    return {
        name: recipe_of(grid, point, macs_per_image)
        for name, point in grid.points.items()
        if only is None or name == only
    }
