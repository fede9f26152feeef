"""Partitions of the models: one per recipe of the profile, and from which parent's partition each child reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dagster as dg

from assets.graph.model_kinds import ModelKind, ModelRecipes
from assets.graph.steps import STEPS
from assets.models.parents import named_versions


def recipe_partitions(names: Iterable[str]) -> dg.StaticPartitionsDefinition:
    """Recipe names are partition keys; they are lower case and checked by the recipe's own schema."""
    return dg.StaticPartitionsDefinition(list(names))


@dataclass(frozen=True)
class KindPartitions:
    """Partitions of one kind of model, and by asset that its recipes may name which of its partitions feeds which."""

    kind: ModelKind
    keys: dg.StaticPartitionsDefinition
    parents: Mapping[str, dg.PartitionMapping]


ModelPartitions = Mapping[str, KindPartitions]
"""Partitions of every kind of model in a profile, by asset."""


def model_partitions(recipes: ModelRecipes) -> ModelPartitions:
    """The partitions of a profile's models. Raises FoundryError for a recipe whose parent no recipe is."""
    return {
        kind.asset: KindPartitions(
            kind, recipe_partitions(recipes.of(kind.asset)), parent_mappings(recipes, kind.asset)
        )
        for kind in recipes.kinds
    }


def parent_mappings(recipes: ModelRecipes, asset: str) -> dict[str, dg.PartitionMapping]:
    """For each asset that recipes of ``asset`` may name: which of its partitions feeds which of theirs."""
    children: dict[str, dict[str, set[str]]] = {source: {} for source in STEPS[asset].parents}
    for child in recipes.of(asset):
        for source, parent in named_versions(recipes, asset, child):
            children[source].setdefault(parent, set()).add(child)
    return {source: dg.StaticPartitionMapping(by_parent) for source, by_parent in children.items()}
