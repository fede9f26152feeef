"""Recipes as YAML files: defaults, recipes that extend others, and sections merged key by key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from training.errors import FoundryError
from training.recipes.section import Section
from training.recipes.specification import Recipe
from training.recipes.validation import validate

Named = TypeVar("Named", bound=Section)


def load_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Validate one recipe. Raises FoundryError naming the key or field, and the nearest valid key."""
    return validate(Recipe, values, where)


def load_recipes(path: Path) -> dict[str, Recipe]:
    """Read a YAML file ``{defaults: {...}, recipes: {name: {...overrides}}}``; sections merge key by key.

    A recipe may say ``extends: other`` to start from another recipe of the file instead of the bare defaults.
    Raises FoundryError for a missing or malformed file, an unknown key or an impossible value.
    """
    return load_named(path, Recipe)


def load_named(path: Path, kind: type[Named]) -> dict[str, Named]:
    """Sections of one kind by name, from a file such as :func:`load_recipes` reads; raises as that does."""
    document = read_yaml(path)
    unknown = set(document) - {"defaults", "recipes"}
    if unknown:
        raise FoundryError(f"{path}: unknown key '{min(unknown)}'; allowed at the top: defaults, recipes")
    recipes = document.get("recipes")
    if not isinstance(recipes, dict) or not recipes:
        raise FoundryError(f"{path}: 'recipes' must map at least one name to its settings; add one")
    return {
        str(name): validate(
            kind, {**_resolve(path, document, str(name), ()), "name": str(name)}, f"{path}, recipe '{name}'"
        )
        for name in recipes
    }


def _resolve(path: Path, document: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """Defaults, then the extended recipe, then the recipe's own settings."""
    if name in seen:
        raise FoundryError(f"{path}: 'extends' runs in a circle: {' -> '.join([*seen, name])}; break it")
    if name not in document["recipes"]:
        raise FoundryError(
            f"{path}, recipe '{seen[-1]}': extends unknown recipe '{name}'; name one of this file"
        )
    own = document["recipes"][name] or {}
    if not isinstance(own, dict):
        raise FoundryError(f"{path}, recipe '{name}': found {own!r}; write settings as 'key: value' lines")
    base = own.get("extends")
    start = (
        _resolve(path, document, str(base), (*seen, name)) if base else dict(document.get("defaults") or {})
    )
    return merge(start, {key: value for key, value in own.items() if key != "extends"})


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; nested mappings merge key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises FoundryError when it is missing, malformed or anything else."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FoundryError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from error
    except yaml.YAMLError as error:
        raise FoundryError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise FoundryError(f"{path}: found {type(document).__name__}, expected 'key: value' lines")
    return document
