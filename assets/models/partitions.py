"""Partitions of the models: one per recipe of the profile, and from which parent's partition each child reads."""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from assets.graph.interfaces import Models
from assets.graph.steps import STEPS
from assets.models.parents import named_versions


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
    unit_scores: dg.StaticPartitionsDefinition
    unit_scores_parents: dict[str, dg.PartitionMapping]
    pruned: dg.StaticPartitionsDefinition
    pruned_parents: dict[str, dg.PartitionMapping]
    fine_tuned: dg.StaticPartitionsDefinition
    fine_tuned_parents: dict[str, dg.PartitionMapping]


def model_partitions(models: Models) -> ModelPartitions:
    """The partitions of a profile's models. Raises FoundryError for a recipe whose parent no recipe is."""
    return ModelPartitions(
        recipe_partitions(models.backbones),
        recipe_partitions(models.teachers),
        recipe_partitions(models.step_distilled),
        parent_mappings(models, "step_distilled_backbone", models.step_distilled),
        recipe_partitions(models.distilled),
        parent_mappings(models, "distilled_backbone", models.distilled),
        recipe_partitions(models.unit_scores),
        parent_mappings(models, "unit_scores", models.unit_scores),
        recipe_partitions(models.pruned),
        parent_mappings(models, "pruned_backbone", models.pruned),
        recipe_partitions(models.fine_tuned),
        parent_mappings(models, "fine_tuned_backbone", models.fine_tuned),
    )


def parent_mappings(models: Models, name: str, keys: Iterable[str]) -> dict[str, dg.PartitionMapping]:
    """For each asset that recipes of ``name`` may name: which of its partitions feeds which of theirs."""
    children: dict[str, dict[str, set[str]]] = {asset: {} for asset in STEPS[name].parents}
    for child in keys:
        for asset, parent in named_versions(models, name, child):
            children[asset].setdefault(parent, set()).add(child)
    return {asset: dg.StaticPartitionMapping(by_parent) for asset, by_parent in children.items()}
