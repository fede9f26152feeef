"""Assets of the group ``entities``: what is where, in LayoutSAM's manner."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow.compute as pc
from pydantic import Field

from assets.definitions import build_asset, materialized, picture, with_defaults
from assets.interfaces import Store, Surroundings
from assets.schemas import ENTITY_ANNOTATIONS
from assets.steps import STEPS, provenance_of


class EntityAnnotationsConfig(dg.Config):
    """Settings of ``entity_annotations``."""

    min_score: float = Field(0.2, description="entities below this confidence are dropped", ge=0, le=1)
    min_area: float = Field(0.02, description="boxes below this share of the image are dropped", ge=0, le=1)
    max_overlap_iou: float = Field(
        0.9, description="of two boxes overlapping more, the weaker is dropped", ge=0, le=1
    )
    max_entities: int = Field(4, description="entities kept per image, strongest first", ge=1, le=10)


CONFIGS: Mapping[str, type[dg.Config]] = {"entity_annotations": EntityAnnotationsConfig}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """These assets read nothing from outside the graph."""
    return {}


def entity_annotations(
    context: dg.AssetExecutionContext, config: EntityAnnotationsConfig, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Entities with normalised boxes, a phrase and a description each: what layout control trains on.

    Dropped entities stay in the table with the reason, so that a threshold can be judged by looking at them.
    """
    from assets.entities.annotate import annotate
    from assets.entities.sheets import entity_sheet

    key, step = context.partition_key, STEPS["entity_annotations"]
    provenance = provenance_of(store, step, key, config.model_dump())
    table = annotate(
        store.read_table("regions", key), **config.model_dump(), function_version=step.function_version
    )
    manifest = store.write_table("entity_annotations", table, provenance, key)
    images = store.read_table("landed_images", key, ["sample_id", "image"])
    dropped = table.filter(pc.invert(table["keep"]))["dropped_because"].value_counts().to_pylist()
    metadata = {
        "entities_kept": int(pc.sum(table["keep"]).as_py() or 0),
        "entities_dropped": dg.MetadataValue.json({entry["values"]: entry["counts"] for entry in dropped}),
        "examples": picture(entity_sheet(images, table), "kept entities with their boxes"),
    }
    return materialized(store, manifest, metadata, schema=ENTITY_ANNOTATIONS)


def build_definitions(
    partitions: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults."""
    config = with_defaults(EntityAnnotationsConfig, defaults.get("entity_annotations", {}))
    return [build_asset(entity_annotations, config, partitions=partitions)]
