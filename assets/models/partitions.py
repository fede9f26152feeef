"""Partitions of the models: one per recipe of the profile, and from which parent's partition each child reads."""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from assets.interfaces import Models
from assets.models.parents import parent_version, recipes_of
from assets.steps import STEPS


def recipe_partitions(names: Iterable[str]) -> dg.StaticPartitionsDefinition:
    """Recipe names are partition keys; they are lower case and checked by the recipe's own schema."""
    return dg.StaticPartitionsDefinition(list(names))


@dataclass(frozen=True)
class ModelPartitions:
    """Partitions of every kind of model in a profile."""

    backbones: dg.StaticPartitionsDefinition
    teachers: dg.StaticPartitionsDefinition
    step_distilled: dg.StaticPartitionsDefinition
    step_distilled_parents: dict[str, dg.PartitionMapping]
    distilled: dg.StaticPartitionsDefinition
    distilled_parents: dict[str, dg.PartitionMapping]


def model_partitions(models: Models) -> ModelPartitions:
    """The partitions of a profile's models. Raises FoundryError for a recipe whose parent no recipe is."""
    return ModelPartitions(
        recipe_partitions(models.backbones),
        recipe_partitions(models.teachers),
        recipe_partitions(models.step_distilled),
        parent_mappings(models, "step_distilled_backbone"),
        recipe_partitions(models.distilled),
        parent_mappings(models, "distilled_backbone"),
    )


def parent_mappings(models: Models, name: str) -> dict[str, dg.PartitionMapping]:
    """For each asset that may be a parent of ``name``: which of its partitions feeds which children."""
    children: dict[str, dict[str, set[str]]] = {asset: {} for asset in STEPS[name].parents}
    for child, recipe in recipes_of(models, name).items():
        asset, parent = parent_version(models, name, recipe)
        children[asset].setdefault(parent, set()).add(child)
    return {asset: dg.StaticPartitionMapping(by_parent) for asset, by_parent in children.items()}
