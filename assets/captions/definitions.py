"""Assets of the group ``captions``: what perception says of each image, and what that does to the caption set."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from assets.definitions import build_asset, materialized, picture, with_defaults
from assets.interfaces import Compute, Models, Perception, Store, Surroundings
from assets.reuse import merge_rows, plan_reuse, previous_rows
from assets.schemas import RECAPTIONS, REGIONS
from assets.steps import STEPS, provenance_of


class RecaptionsConfig(dg.Config):
    """Settings of ``recaptions``."""

    captions_per_image: int = Field(
        2, description="generated captions per image, beside the original", ge=1, le=5
    )
    min_confidence: float = Field(
        0.5, description="a generated caption below this confidence is replaced by the original", ge=0, le=1
    )
    seed: int = Field(0, description="seed of the wording", ge=0)


class CaptionStatisticsConfig(dg.Config):
    """Settings of ``caption_statistics``."""

    longest_words: int = Field(40, description="caption lengths are counted up to so many words", ge=1)


CONFIGS: Mapping[str, type[dg.Config]] = {
    "recaptions": RecaptionsConfig,
    "caption_statistics": CaptionStatisticsConfig,
}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    return {"perception": surroundings.perception.digest} if name == "recaptions" else {}


def recaptions(
    context: dg.AssetExecutionContext,
    config: RecaptionsConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Denser captions, made from pixels alone: regions are found, named, measured and put into sentences.

    Web alt-texts say little of what is in the picture; denser, more varied captions are what moves alignment.
    Only images that this perception has not seen yet are looked at; the rest of the rows is kept. What it gets right
    and wrong is scored against the hidden truth in ``evaluation_table``, never here.
    """
    from assets.captions.recaption import recaption
    from assets.captions.sheets import caption_sheet

    key, step = context.partition_key, STEPS["recaptions"]
    provenance = provenance_of(store, step, key, config.model_dump(), {"perception": perception.digest})
    images = _perceived_images(store, key)
    previous = previous_rows(store, "regions", key, context.log.warning)
    plan = plan_reuse(previous, images["sample_id"].to_pylist(), {"model_digest": perception.digest})
    todo = images.filter(pc.is_in(images["sample_id"], value_set=pa.array(plan.todo, pa.string())))
    fresh: list[pa.Table] = []
    if todo.num_rows:
        fresh = list(compute.map_shards(perception.worker(), [todo], models.resources, context.log.info))
    made = pa.concat_tables([REGIONS.empty_table(), *fresh])
    regions = merge_rows(plan.kept, made, ["sample_id", "region_index"])
    store.write_table("regions", regions, provenance, key)
    alt_texts = dict(zip(images["sample_id"].to_pylist(), images["alt_text"].to_pylist(), strict=True))
    table = recaption(regions, alt_texts, config.min_confidence, config.captions_per_image, config.seed)
    manifest = store.write_table("recaptions", table, provenance, key)
    metadata = {
        **plan.counts(),
        "images_perceived": todo.num_rows,
        "kept_original": int(pc.sum(table["kept_original"]).as_py() or 0),
        "perception": perception.model,
        "examples": picture(caption_sheet(images, table), "images with their first generated caption"),
    }
    return materialized(store, manifest, metadata, schema=RECAPTIONS)


def caption_statistics(
    context: dg.AssetExecutionContext, config: CaptionStatisticsConfig, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """How dense and how varied captions are: original, recaptioned and mixed, side by side."""
    from assets.captions.sheets import statistics_markdown
    from assets.captions.statistics import CAPTION_STATISTICS, length_histogram
    from assets.captions.statistics import caption_statistics as compare

    provenance = provenance_of(store, STEPS["caption_statistics"], None, config.model_dump())
    landed = store.read_all("landed_images", ["sample_id", "alt_text"])
    alt_texts = dict(zip(landed["sample_id"].to_pylist(), landed["alt_text"].to_pylist(), strict=True))
    recaptions_table = store.read_all("recaptions", ["sample_id", "caption", "kept_original"])
    table = compare(alt_texts, recaptions_table)
    manifest = store.write_table("caption_statistics", table, provenance)
    lengths = length_histogram(recaptions_table["caption"].to_pylist(), config.longest_words)
    metadata = {
        "comparison": dg.MetadataValue.md(statistics_markdown(table)),
        "generated_captions_by_words": dg.MetadataValue.json(lengths),
    }
    return materialized(store, manifest, metadata, schema=CAPTION_STATISTICS)


def build_definitions(
    partitions: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    return [
        build_asset(recaptions, configs["recaptions"], partitions=partitions, pool=pool),
        build_asset(
            caption_statistics, configs["caption_statistics"], automation=dg.AutomationCondition.eager()
        ),
    ]


def _perceived_images(store: Store, key: str) -> pa.Table:
    """Rows (sample_id, image, alt_text) that perception looks at: curated, and not the judge's own split."""
    curated = store.read_table("curated_images", key, ["sample_id", "keep", "split"])
    wanted = curated.filter(pc.and_(curated["keep"], pc.not_equal(curated["split"], "judge")))["sample_id"]
    landed = store.read_table("landed_images", key, ["sample_id", "image", "alt_text"])
    return landed.filter(pc.is_in(landed["sample_id"], value_set=wanted.combine_chunks()))
