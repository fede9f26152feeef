"""Assets of the group ``corpus``: from whatever was dropped to images that are worth the work."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow.compute as pc
from pydantic import Field, create_model

from assets.corpus.curation_rules import CURATION_RULES
from assets.derivation.reuse import previous_rows
from assets.derivation.units import input_digest
from assets.graph.definitions import (
    build_asset,
    check_result,
    check_spec,
    materialized,
    picture,
    with_defaults,
)
from assets.graph.interfaces import Landing, Store, Surroundings
from assets.graph.schemas import CURATED_IMAGES, LANDED_IMAGES
from assets.graph.steps import STEPS, provenance_of
from assets.graph.versions import Provenance


class DemoScenesConfig(dg.Config):
    """Settings of ``demo_scenes``."""

    train: int = Field(1200, description="scenes to train on; perception looks at each", ge=1)
    judge: int = Field(2500, description="scenes of the judge's own split; perception never sees them", ge=1)
    held_out_images: int = Field(128, description="new scenes of training concepts, for evaluation", ge=1)
    held_out_concepts: int = Field(128, description="scenes with concepts that training never shows", ge=1)
    flawed: int = Field(
        0, description="training scenes more that curation drops: near copies and thumbnails", ge=0
    )
    seed: int = Field(0, description="seed of the builder", ge=0)
    scenes_per_shard: int = Field(100, description="scenes in one landed shard", ge=1)


class LandedImagesConfig(dg.Config):
    """Settings of ``landed_images``."""

    max_pixels: int = Field(
        50_000_000, description="larger images go to quarantine before they are decoded", ge=1
    )


CuratedImagesConfig: type[dg.Config] = create_model(
    "CuratedImagesConfig",
    __base__=dg.Config,
    __doc__="Settings of ``curated_images``: the threshold of each rule.",
    __module__=__name__,
    **{rule.setting: rule.field() for rule in CURATION_RULES},
)


CONFIGS: Mapping[str, type[dg.Config]] = {
    "demo_scenes": DemoScenesConfig,
    "landed_images": LandedImagesConfig,
    "curated_images": CuratedImagesConfig,
}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    from training.digests import sha256_file

    return {"world": sha256_file(surroundings.landing.world_path)} if name == "demo_scenes" else {}


def landed_inputs(landing: Landing, partition: str, removed: frozenset[str]) -> dict[str, str]:
    """Digest of every landed shard of one group, and of the list of images that were taken down."""
    from assets.corpus.landing import group_shards

    shards = {f"shard:{shard.name}": shard.sha256 for shard in group_shards(landing, partition)}
    return {**shards, "takedowns": input_digest(*sorted(removed))} if removed else shards


def demo_scenes(
    context: dg.AssetExecutionContext,
    config: DemoScenesConfig,
    store: dg.ResourceParam[Store],
    landing: dg.ResourceParam[Landing],
) -> dg.MaterializeResult:
    """Composes real pictures (Twemoji) into small scenes with terse alt-texts, and lands them as shards.

    What the builder knows (names, boxes, depth, words) goes to the separate table ``scene_truth``, which only
    scoring may read. Art: Twemoji by Twitter and contributors, CC-BY 4.0.
    """
    from assets.corpus.scenes import land_scenes, load_any_world
    from assets.corpus.sheets import scene_sheet
    from training.digests import sha256_file

    counts = config.model_dump(exclude={"seed", "scenes_per_shard", "flawed"})
    world = load_any_world(landing.world_path)
    truth = land_scenes(world, landing.folder, counts, config.seed, config.scenes_per_shard, config.flawed)
    inputs = {"world": sha256_file(landing.world_path)}
    provenance = Provenance("demo_scenes", STEPS["demo_scenes"].function_version, config.model_dump(), inputs)
    store.write_table("scene_truth", truth, provenance)
    manifest = store.write_table("demo_scenes", truth.select(["sample_id", "key", "split"]), provenance)
    metadata = {
        **counts,
        "flawed": config.flawed,
        "scenes": picture(scene_sheet(world), "composed scenes"),
        "landing_folder": str(landing.folder),
    }
    return materialized(store, manifest, metadata)


def landed_images(
    context: dg.AssetExecutionContext,
    config: LandedImagesConfig,
    store: dg.ResourceParam[Store],
    landing: dg.ResourceParam[Landing],
) -> dg.MaterializeResult:
    """Every usable sample of the landing folder's shards, with its identity; the rest is in quarantine, with reasons.

    A shard's group is the hash of its name, so a new or changed shard touches one partition.
    """
    from assets.corpus.landing import land_group
    from assets.corpus.relanding import landed_before

    key, step = context.partition_key, STEPS["landed_images"]
    removed = store.takedowns()
    inputs = landed_inputs(landing, key, removed)
    provenance = provenance_of(store, step, key, config.model_dump(), inputs)
    before = landed_before(store, provenance, key, context.log.warning)
    landed, quarantined = land_group(landing, key, config.max_pixels, before, removed)
    store.write_table("quarantine", quarantined, provenance, key)
    manifest = store.write_table("landed_images", landed, provenance, key)
    total = landed.num_rows + quarantined.num_rows
    share = quarantined.num_rows / max(total, 1)
    reasons = {entry["values"]: entry["counts"] for entry in quarantined["reason"].value_counts().to_pylist()}
    findings = {
        "quarantined": quarantined.num_rows,
        "share": share,
        "reasons": dg.MetadataValue.json(reasons),
    }
    metadata = {
        "shards": sum(name.startswith("shard:") for name in inputs),
        "quarantined": quarantined.num_rows,
        "source": landing.source,
    }
    check = check_result("quarantine_share", share <= 0.05, findings, blocking=False)
    return materialized(store, manifest, metadata, [check], schema=LANDED_IMAGES)


def curated_images(
    context: dg.AssetExecutionContext, config: dg.Config, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """Which landed images go on, as an id list: duplicates, tiny and extreme ones are marked with the reason."""
    from assets.corpus.curation import curate
    from assets.corpus.sheets import image_sheet

    key, step = context.partition_key, STEPS["curated_images"]
    provenance = provenance_of(store, step, key, config.model_dump())
    landed = store.read_table("landed_images", key)
    known = previous_rows(store, step.name, key, context.log.warning)
    table = curate(landed, known, **config.model_dump())
    manifest = store.write_table("curated_images", table, provenance, key)
    dropped = table.filter(pc.invert(table["keep"]))["dropped_because"].value_counts().to_pylist()
    metadata = {
        "kept": int(pc.sum(table["keep"]).as_py() or 0),
        "dropped": dg.MetadataValue.json({entry["values"]: entry["counts"] for entry in dropped}),
        "examples": picture(image_sheet(landed), "a few of the images"),
    }
    return materialized(store, manifest, metadata, schema=CURATED_IMAGES)


def build_definitions(
    partitions: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    quarantine = check_spec(
        "landed_images", "quarantine_share", "At most 5 % of what arrived is unusable.", blocking=False
    )
    return [
        build_asset(demo_scenes, configs["demo_scenes"]),
        build_asset(landed_images, configs["landed_images"], partitions=partitions, checks=[quarantine]),
        build_asset(curated_images, configs["curated_images"], partitions=partitions),
    ]
