"""Which published model a recipe starts from: its ``parent`` names a recipe of one of the assets that hold parents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from assets.graph.interfaces import Models, Provenance, Store
from assets.graph.steps import STEPS, input_label
from training.errors import FoundryError
from training.recipes.pruned_models import ScoringRecipe
from training.recipes.specification import Recipe


def names_of(models: Models, asset: str) -> Collection[str]:
    """The partition keys of an asset that holds models."""
    if asset == "teacher_backbone":
        return models.teachers
    return models.pruned if asset == "pruned_backbone" else recipes_of(models, asset)


def recipes_of(models: Models, asset: str) -> Mapping[str, Recipe]:
    """The profile's recipes of an asset whose models are trained, by partition key."""
    return {
        "backbone": models.backbones,
        "step_distilled_backbone": models.step_distilled,
        "distilled_backbone": models.distilled,
        "fine_tuned_backbone": models.fine_tuned,
    }[asset]


def parent_version(models: Models, asset: str, recipe: Recipe | ScoringRecipe) -> tuple[str, str]:
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


def named_versions(models: Models, asset: str, partition: str) -> list[tuple[str, str]]:
    """Asset and partition of all that a partition's recipe names; nothing for assets whose recipes name none.

    Raises FoundryError for a name that no recipe of the profile has.
    """
    if not STEPS[asset].parents:
        return []
    if asset == "unit_scores":
        return [parent_version(models, asset, models.unit_scores[partition])]
    if asset == "pruned_backbone":
        scoring = scoring_of(models, partition)
        return [("unit_scores", scoring.name), parent_version(models, "unit_scores", scoring)]
    parent = parent_version(models, asset, recipes_of(models, asset)[partition])
    if asset == "fine_tuned_backbone":
        return list(dict.fromkeys([parent, reference_version(models, partition)]))
    return [parent]


def reference_version(models: Models, fine_tuned: str) -> tuple[str, str]:
    """What a fine-tuned model is held beside: its parent, or the whole model that its parent was pruned from."""
    asset, name = parent_version(models, "fine_tuned_backbone", models.fine_tuned[fine_tuned])
    if asset != "pruned_backbone":
        return asset, name
    return parent_version(models, "unit_scores", scoring_of(models, name))


def scoring_of(models: Models, pruned: str) -> ScoringRecipe:
    """How the units of a pruned model's parent are scored."""
    return models.unit_scores[models.pruned[pruned].scores]


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
                "leave it out, or move the recipe to step_distilled.yaml, distilled.yaml or fine_tuned.yaml"
            )
