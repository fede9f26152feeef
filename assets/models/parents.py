"""Which versions a recipe names: the model it starts from, the scores it cuts by, among the assets that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.graph.interfaces import Store
from assets.graph.model_kinds import ModelRecipes, Version
from assets.graph.steps import STEPS, input_label
from assets.graph.versions import Provenance
from training.errors import FoundryError


def parent_version(recipes: ModelRecipes, asset: str, recipe: Any) -> Version:
    """Asset and partition that a recipe of ``asset`` names: the first of its parents in the step table that has the name.

    Raises FoundryError when the recipe names none or one that no recipe of the profile is.
    """
    field, sources = recipes.kind(asset).names, STEPS[asset].parents
    named = getattr(recipe, field)
    for source in sources:
        if named in recipes.of(source):
            return source, str(named)
    known = ", ".join(f"{name} ({source})" for source in sources for name in recipes.of(source))
    raise FoundryError(
        f"profile {recipes.profile}: recipe '{recipe.name}' of {asset} has {field} {named!r}; "
        f"name one of: {known or 'no recipe there yet'}"
    )


def named_versions(recipes: ModelRecipes, asset: str, partition: str) -> list[Version]:
    """Asset and partition of all that a partition's recipe names; nothing for assets whose recipes name none.

    Raises FoundryError for a name that no recipe of the profile has.
    """
    if not STEPS[asset].parents:
        return []
    kind = recipes.kind(asset)
    named = [parent_version(recipes, asset, recipes.of(asset)[partition])]
    if kind.also_reads is not None:
        named.append(kind.also_reads(recipes, partition))
    return list(dict.fromkeys(named))


def model_behind(recipes: ModelRecipes, asset: str, partition: str) -> str:
    """The name of the model that a partition is made from, be it named itself or by way of what is no model.

    Whether there is a model of that name is not looked at.
    """
    named = getattr(recipes.of(asset)[partition], recipes.kind(asset).names)
    for source in STEPS[asset].parents:
        if named in recipes.of(source) and not recipes.kind(source).holds_models:
            return model_behind(recipes, source, named)
    return str(named)


@dataclass(frozen=True)
class Sources:
    """What a child's training reads, by input name: content digests, and verified folders on this machine."""

    digests: Mapping[str, str]
    paths: Mapping[str, Path]


def child_sources(store: Store, provenance: Provenance, parent: tuple[str, str]) -> Sources:
    """Dataset, autoencoder and parent of a child, and the layouts of one that reads them.

    Raises StoreError when the gate of one failed or it is damaged.
    """
    read: dict[str, tuple[str, str | None]] = {
        "dataset": ("training_shards", None),
        "autoencoder": ("autoencoder", None),
        "parent": parent,
    }
    if input_label("layout_shards", None) in provenance.inputs:
        read["layout"] = ("layout_shards", None)
    gated = {"training_shards", parent[0]}
    return Sources(
        {name: provenance.inputs[input_label(*version)] for name, version in read.items()},
        {
            name: store.local_folder(*version, require_gate=version[0] in gated)
            for name, version in read.items()
        },
    )
