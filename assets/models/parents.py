"""Which published model a recipe starts from: its ``parent`` names a recipe of one of the assets that hold parents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from assets.interfaces import Models, Provenance, Store
from assets.steps import STEPS, input_label
from training.errors import FoundryError
from training.spec import Recipe


def names_of(models: Models, asset: str) -> Collection[str]:
    """The partition keys of an asset that holds models."""
    return models.teachers if asset == "teacher_backbone" else recipes_of(models, asset)


def recipes_of(models: Models, asset: str) -> Mapping[str, Recipe]:
    """The profile's recipes of an asset whose models are trained, by partition key."""
    return {
        "backbone": models.backbones,
        "step_distilled_backbone": models.step_distilled,
        "distilled_backbone": models.distilled,
    }[asset]


def parent_version(models: Models, asset: str, recipe: Recipe) -> tuple[str, str]:
    """Asset and partition of a recipe's parent: the first of ``asset``'s parents in the step table that has it.

    Raises FoundryError when the recipe names none or one that no recipe of the profile is.
    """
    sources = STEPS[asset].parents
    for source in sources:
        if recipe.parent in names_of(models, source):
            return source, str(recipe.parent)
    known = ", ".join(f"{name} ({source})" for source in sources for name in names_of(models, source))
    raise FoundryError(
        f"profile {models.profile}: recipe '{recipe.name}' of {asset} has parent {recipe.parent!r}; "
        f"name one of: {known or 'no recipe there yet'}"
    )


@dataclass(frozen=True)
class Sources:
    """What a child's training reads, by input name: content digests, and verified folders on this machine."""

    digests: Mapping[str, str]
    paths: Mapping[str, Path]


def child_sources(store: Store, provenance: Provenance, parent: tuple[str, str]) -> Sources:
    """Dataset, autoencoder and parent of a child. Raises StoreError when the gate of one failed or it is damaged."""
    read = {"dataset": ("training_shards", None), "autoencoder": ("autoencoder", None), "parent": parent}
    gated = {"training_shards", parent[0]}
    return Sources(
        {name: provenance.inputs[input_label(*version)] for name, version in read.items()},
        {
            name: store.local_folder(*version, require_gate=version[0] in gated)
            for name, version in read.items()
        },
    )


def check_no_parents(recipes: Mapping[str, Recipe], where: str) -> None:
    """Refuse recipes with a parent where models are trained from scratch. Raises FoundryError naming the first."""
    for name, recipe in recipes.items():
        if recipe.parent is not None:
            raise FoundryError(
                f"{where}, recipe '{name}': 'parent' is '{recipe.parent}', but these models start from scratch; "
                "leave it out, or move the recipe to step_distilled.yaml or distilled.yaml"
            )
