"""What a run of a step reads and would be made from, by the table of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assets.graph.interfaces import Store
from assets.graph.step_table import STEPS, Step
from assets.graph.versions import Provenance
from training.errors import FoundryError

__all__ = ["STEPS", "Step", "input_keys", "input_label", "provenance_of"]


def input_keys(
    store: Store, step: Step, partition: str | None, named: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str | None]]:
    """(name, partition) of every version that ``step`` reads for one of its partitions.

    A step reads the same partition of an equally partitioned input, all partitions of a differently
    partitioned one, and the only version of an unpartitioned one. Of its parents it reads the ``named`` alone.
    """
    keys: list[tuple[str, str | None]] = []
    for name in step.reads:
        source = STEPS[name]
        if name in step.parents:
            keys.extend(version for version in named if version[0] == name)
        elif source.partitioned_by is None:
            keys.append((name, None))
        elif source.partitioned_by == step.partitioned_by:
            keys.append((name, partition))
        else:
            keys.extend((name, key) for key in store.partitions(name))
    return keys


def input_label(name: str, partition: str | None) -> str:
    """How a version is named among a provenance's inputs."""
    return name if partition is None else f"{name}@{partition}"


def provenance_of(
    store: Store,
    step: Step,
    partition: str | None,
    config: Mapping[str, Any],
    other_inputs: Mapping[str, str] | None = None,
    named: Sequence[tuple[str, str]] = (),
) -> Provenance:
    """What a run of ``step`` would be made from right now.

    ``other_inputs`` are digests of what does not come out of the graph (landed files, packaged models); ``named``
    are asset and partition of what a recipe names: the model it starts from, the scores it cuts by.
    Raises FoundryError when an input does not exist yet.
    """
    inputs = dict(other_inputs or {})
    for name, key in input_keys(store, step, partition, named):
        manifest = store.current(name, key)
        if manifest is None:
            raise FoundryError(
                f"'{step.name}' reads {input_label(name, key)}, which has not been materialized yet. Materialize it first."
            )
        inputs[input_label(name, key)] = manifest.digest
    return Provenance(step.name, step.function_version, dict(config), inputs)
