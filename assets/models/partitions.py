"""Partitions of the models: one per recipe of the profile."""

from collections.abc import Iterable

import dagster as dg


def recipe_partitions(names: Iterable[str]) -> dg.StaticPartitionsDefinition:
    """Recipe names are partition keys; they are lower case and checked by the recipe's own schema."""
    return dg.StaticPartitionsDefinition(list(names))
