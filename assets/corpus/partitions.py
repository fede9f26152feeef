"""Partitions of the graph: groups of shards for data, recipes for models. Never images."""

import dagster as dg


def shard_groups(keys: list[str]) -> dg.StaticPartitionsDefinition:
    """Partitions of the data assets: at most 64 groups, a shard's group is the hash of its name."""
    return dg.StaticPartitionsDefinition(keys)
