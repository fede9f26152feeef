"""Recipes to plan by name: those of a profile, its grid's points, or a whole profile."""

from __future__ import annotations

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
    "optimizer",
    "latent_size",
    "tokens",
)
LAYOUT_MODELS = "layout_models.yaml"
TEACHERS = "teacher"
"""Profile of the models that ship, from which recipes of every profile may start."""


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


def machine_settings(profile: str, recipe: str | None = None) -> dict[str, Any]:
    """The profile's own machine, from ``plan.yaml``, or that of a recipe which has one. Raises FoundryError for an unknown key."""
    path = profile_folder(profile) / "plan.yaml"
    if not path.exists():
        return {}
    document = read_yaml(path)
    own = (document.get("recipes") or {}).get(recipe)
    name, settings = ("machine", document.get("machine") or {}) if own is None else (f"recipes.{recipe}", own)
    for key in settings:
        if key not in MACHINE_KEYS:
            raise FoundryError(f"{path}: unknown key '{name}.{key}'; {nearest(key, MACHINE_KEYS)}")
    return dict(settings)


def find_recipe(name: str, profile: str) -> Recipe:
    """A recipe, grid point or layout model of a profile. Raises FoundryError with the nearest recipe or profile."""
    recipes = _recipes(profile)
    if name in recipes:
        return recipes[name]
    points = _grid_points(profile, name)
    if name in points:
        return points[name]
    branches = {each.label: each.recipe for each in branches_of(profile)}
    if name in branches:
        return branches[name]
    _check_is_no_child(name, profile)
    known = [*recipes, *branches, *profile_names()]
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
                f"'{name}' of {path.name} is made from '{recipe.parent}', and only trainings from scratch and layout "
                "branches are planned; plan the recipe of recipes.yaml that it comes from"
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


def branches_of(profile: str) -> list[Wanted]:
    """The profile's layout models, each with the backbone that its branch is grown on; none without their file.

    Raises FoundryError for one whose backbone no recipe tells.
    """
    path = profile_folder(profile) / LAYOUT_MODELS
    recipes = load_recipes(path) if path.exists() else {}
    return [
        Wanted(name, recipe.model_copy(update={"backbone": _backbone_of(recipe, profile)}))
        for name, recipe in recipes.items()
    ]


def _backbone_of(recipe: Recipe, profile: str) -> str:
    """What a recipe names, or its parent in this profile or among the models that ship."""
    if recipe.backbone is not None:
        return recipe.backbone
    for known in (_recipes(profile), _recipes(TEACHERS)):
        parent = known.get(str(recipe.parent))
        if parent is not None and parent.backbone is not None:
            return parent.backbone
    raise FoundryError(
        f"'{recipe.name}' of {LAYOUT_MODELS} is made from '{recipe.parent}', whose backbone no recipe names; say 'backbone' in "
        "the recipe"
    )


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
