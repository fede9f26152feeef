"""Which samples of a shard group the assets after curation look at, and what a model's answer for them depends on."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from assets.derivation.units import input_digest
from assets.graph.interfaces import Perception, PerceptionModel, Store
from evaluation.perception.roles import Role


def samples_of(store: Store, partition: str | None, *, raw: bool = False) -> list[str]:
    """Ids of the curated samples of a group that are not in the judge's own split.

    ``raw``: also of the training samples that curation dropped.
    """
    curated = store.read_table("curated_images", partition, ["sample_id", "keep", "split"])
    kept = pc.and_(curated["keep"], pc.not_equal(curated["split"], "judge"))
    wanted = curated.filter(pc.or_(kept, pc.equal(curated["split"], "train")) if raw else kept)
    return [str(name) for name in wanted["sample_id"].to_pylist()]


def landed_of(
    store: Store, partition: str | None, samples: Sequence[str], columns: Sequence[str]
) -> pa.Table:
    """Some columns (``sample_id`` among them) of landed samples, in the order of landing."""
    landed = store.read_table("landed_images", partition, columns)
    return landed.filter(pc.is_in(landed["sample_id"], value_set=pa.array(samples, pa.string())))


def read_digests(
    store: Store, partition: str | None, model: PerceptionModel, samples: Sequence[str]
) -> dict[str, str]:
    """By sample, a digest of what the model reads beyond the image that the sample's id stands for.

    A model that reads regions has to be asked again where these were seen by other perception than last time.
    """
    if "regions" not in model.reads:
        return dict.fromkeys(samples, "")
    regions = store.read_table("regions", partition, ["sample_id", "model_digest", "function_version"])
    seen = dict(zip(regions["sample_id"].to_pylist(), regions.select([1, 2]).to_pylist(), strict=True))
    return {name: input_digest(seen[name]) for name in samples if name in seen}


def model_inputs(perception: Perception, role: Role | None) -> dict[str, str]:
    """The model of a role among a provenance's inputs; empty where the role is not filled."""
    model = None if role is None else perception.model(role)
    return {} if model is None else {str(role): model.digest}


def dropped_counts(table: pa.Table) -> dict[str, int]:
    """How many rows were dropped, by reason."""
    reasons = table.filter(pc.invert(table["keep"]))["dropped_because"].value_counts().to_pylist()
    return {str(entry["values"]): int(entry["counts"]) for entry in reasons}
