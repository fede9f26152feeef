"""Assets of the group ``captions``: what perception says of each image, and what that does to the caption set."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow.compute as pc
from pydantic import Field

from assets.derivation.deriving import refresh_table
from assets.derivation.inputs import (
    dropped_counts,
    landed_of,
    model_inputs,
    read_digests,
    samples_of,
)
from assets.derivation.units import Derivation, Units
from assets.derivation.work_items import sample_work, text_units
from assets.graph.asking import required
from assets.graph.definitions import (
    DerivedConfig,
    build_asset,
    check_spec,
    gate_check,
    keep_figures,
    materialized,
    picture,
    settings,
    with_defaults,
)
from assets.graph.interfaces import Compute, Perception, Store, Surroundings
from assets.graph.schemas import RECAPTIONS
from assets.graph.steps import STEPS, provenance_of
from assets.graph.versions import GateResult
from assets.pages.sheets import figure_jpeg
from evaluation.perception.roles import Role
from evaluation.tables.perception import CAPTIONS, NOUNS, REGIONS


class RegionsConfig(DerivedConfig):
    """Settings of ``regions``."""


class RecaptionsConfig(DerivedConfig):
    """Settings of ``recaptions``. Which model captions, with which prompts, stands in the profile."""

    captions_per_image: int = Field(
        2, description="generated captions kept per image, best first", ge=1, le=16
    )
    min_confidence: float = Field(
        0.5, description="a generated caption below this confidence is dropped", ge=0, le=1
    )


class CaptionNounsConfig(DerivedConfig):
    """Settings of ``caption_nouns``."""

    raw: bool = Field(False, description="also alt-texts of training samples that curation dropped")


class CaptionStatisticsConfig(dg.Config):
    """Settings of ``caption_statistics``; the limits are those of the gate ``density_and_diversity``."""

    longest_words: int = Field(40, description="caption lengths are counted up to so many words", ge=1)
    min_density_gain: float = Field(
        0.5, description="least nouns per image of recaptioned over those of original captions", ge=0
    )
    min_diversity_ratio: float = Field(
        0.2, description="least different nouns of recaptioned over those of original captions", ge=0
    )
    max_near_duplicate_share: float = Field(
        1.0, description="largest share of generated captions that nearly repeat another one", ge=0, le=1
    )


CONFIGS: Mapping[str, type[dg.Config]] = {
    "regions": RegionsConfig,
    "recaptions": RecaptionsConfig,
    "caption_nouns": CaptionNounsConfig,
    "caption_statistics": CaptionStatisticsConfig,
}
_ROLES: Mapping[str, Role] = {"regions": "regions", "recaptions": "captioner", "caption_nouns": "nouns"}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    return model_inputs(surroundings.perception, _ROLES.get(name))


def regions(
    context: dg.AssetExecutionContext,
    config: RegionsConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """What the embedded models see in each image: regions with names, colours, words and masks, from pixels alone.

    The embedded captioner, detector, describer and masks all read this one look at the image. Where a profile fills
    these roles with models of its own, it leaves the role `regions` empty, and nothing is looked at here.
    """
    key, step = context.partition_key, STEPS["regions"]
    model = perception.model("regions")
    provenance = provenance_of(store, step, key, settings(config), model_inputs(perception, "regions"))
    if model is None:
        return materialized(store, store.write_table(step.name, REGIONS.empty_table(), provenance, key))
    derivation = Derivation(
        step.name,
        step.name,
        model,
        "sample_id",
        REGIONS,
        ["sample_id", "region_index"],
        step.function_version,
    )
    units = Units(
        dict.fromkeys(samples_of(store, key), ""), lambda todo: sample_work(store, key, model, todo)
    )
    done = refresh_table(
        store, compute, derivation, units, provenance, key, context.log.info, retry_failed=config.retry_failed
    )
    return materialized(store, done.manifest, {**done.counts, "model": model.name}, schema=REGIONS)


def recaptions(
    context: dg.AssetExecutionContext,
    config: RecaptionsConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """Denser captions, several an image, made from pixels alone and never from the alt-text.

    Web alt-texts say little of what is in the picture; denser, more varied captions are what moves alignment. Every
    candidate stays with its score and the reason why it was dropped: a changed threshold re-selects and asks no model.
    What the captioner gets right and wrong is scored against the hidden truth in `data_quality`, never here. Where a profile
    leaves the role `captioner` empty, alt-texts are all the captions there are.
    """
    from assets.captions.recaption import select_captions
    from assets.captions.sheets import caption_sheet

    key, step = context.partition_key, STEPS["recaptions"]
    model = perception.model("captioner")
    provenance = provenance_of(store, step, key, settings(config), model_inputs(perception, "captioner"))
    if model is None:
        return materialized(store, store.write_table(step.name, RECAPTIONS.empty_table(), provenance, key))
    derivation = Derivation(
        step.name,
        step.name,
        model,
        "sample_id",
        CAPTIONS,
        ["sample_id", "caption_index"],
        step.function_version,
    )
    samples = samples_of(store, key)
    units = Units(read_digests(store, key, model, samples), lambda todo: sample_work(store, key, model, todo))
    done = refresh_table(
        store, compute, derivation, units, provenance, key, context.log.info,
        retry_failed=config.retry_failed,
        select=lambda rows: select_captions(rows, config.min_confidence, config.captions_per_image),
    )  # fmt: skip
    images = landed_of(store, key, samples[:64], ["sample_id", "image"])
    metadata = {
        **done.counts,
        "captions_kept": int(pc.sum(done.table["keep"]).as_py() or 0),
        "captions_dropped": dg.MetadataValue.json(dropped_counts(done.table)),
        "model": model.name,
        "examples": picture(caption_sheet(images, done.table), "images with their best generated caption"),
    }
    return materialized(store, done.manifest, metadata, schema=RECAPTIONS)


def caption_nouns(
    context: dg.AssetExecutionContext,
    config: CaptionNounsConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """The nouns of every distinct caption, original or generated: what density and diversity are counted in."""
    from assets.encodings.text import distinct_texts

    key, step = context.partition_key, STEPS["caption_nouns"]
    model = required(perception, "nouns")
    provenance = provenance_of(store, step, key, settings(config), model_inputs(perception, "nouns"))
    samples = samples_of(store, key, raw=config.raw)
    alt_texts = landed_of(store, key, samples, ["sample_id", "alt_text"])["alt_text"].to_pylist()
    generated = store.read_table("recaptions", key, ["caption"])["caption"].to_pylist()
    texts = distinct_texts([*alt_texts, *generated])  # dropped ones too: a changed threshold then asks nobody
    derivation = Derivation(step.name, step.name, model, "text_id", NOUNS, ["text_id"], step.function_version)
    done = refresh_table(
        store, compute, derivation, text_units(texts, model), provenance, key, context.log.info,
        retry_failed=config.retry_failed,
    )  # fmt: skip
    return materialized(store, done.manifest, {**done.counts, "model": model.name}, schema=NOUNS)


def is_captioned(store: Store) -> bool:
    """Whether any group's captions were asked of a model, whatever it answered."""
    made = (store.require("recaptions", key).provenance for key in store.partitions("recaptions"))
    return any("captioner" in provenance.inputs for provenance in made)


def caption_statistics(
    context: dg.AssetExecutionContext, config: CaptionStatisticsConfig, store: dg.ResourceParam[Store]
) -> dg.MaterializeResult:
    """How dense and how varied captions are, in nouns: original, recaptioned and mixed, side by side.

    The gate refuses a caption set that would teach a model less than the originals alone; `training_shards` obeys it.
    """
    from assets.captions.plots import statistics_figures
    from assets.captions.sheets import statistics_markdown
    from assets.captions.statistics import CAPTION_STATISTICS, caption_check
    from assets.captions.statistics import caption_statistics as compare

    step = STEPS["caption_statistics"]
    provenance = provenance_of(store, step, None, settings(config))
    if not is_captioned(store):
        gate = GateResult(
            True, {"why": "the profile names no captioner: alt-texts are all the captions there are"}
        )
        manifest = store.write_table(step.name, CAPTION_STATISTICS.empty_table(), provenance, gate=gate)
        return materialized(store, manifest, {}, [gate_check("density_and_diversity", gate)])
    table = compare(
        store.read_all("landed_images", ["sample_id", "alt_text"]),
        store.read_all("recaptions", ["sample_id", "caption", "keep"]),
        store.read_all("caption_nouns", ["text_id", "nouns", "num_words"]),
        longest_words=config.longest_words,
    )
    gate = caption_check(
        table, config.min_density_gain, config.min_diversity_ratio, config.max_near_duplicate_share
    )
    manifest = store.write_table(step.name, table, provenance, gate=gate)
    figures = statistics_figures(table)
    kept = keep_figures(store, "caption_figures", figures, provenance)
    metadata = {
        "comparison": dg.MetadataValue.md(statistics_markdown(table)),
        **{name.removesuffix(".png"): picture(figure_jpeg(png), name) for name, png in figures.items()},
        "figures": dg.MetadataValue.path(kept),
    }
    return materialized(
        store, manifest, metadata, [gate_check("density_and_diversity", gate)], schema=CAPTION_STATISTICS
    )


def build_definitions(
    partitions: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    gate = check_spec(
        "caption_statistics",
        "density_and_diversity",
        "Generated captions are as dense and as varied, against the originals, as the settings ask for.",
        blocking=True,
    )
    return [
        build_asset(regions, configs["regions"], partitions=partitions, pool=pool),
        build_asset(recaptions, configs["recaptions"], partitions=partitions, pool=pool),
        build_asset(caption_nouns, configs["caption_nouns"], partitions=partitions, pool=pool),
        build_asset(
            caption_statistics,
            configs["caption_statistics"],
            checks=[gate],
            automation=dg.AutomationCondition.eager(),
        ),
    ]
