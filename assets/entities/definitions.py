"""Assets of the group ``entities``: what is where, in LayoutSAM's manner, each step in a table of its own."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.compute as pc
from pydantic import Field

from assets.corpus.concepts import concept_inputs, concept_names, held_out_names
from assets.derivation.deriving import refresh_table
from assets.derivation.inputs import dropped_counts, landed_of, model_inputs
from assets.derivation.units import Derivation
from assets.graph.asking import required
from assets.graph.definitions import (
    DerivedConfig,
    build_asset,
    check_result,
    check_spec,
    gate_check,
    keep_figures,
    materialized,
    picture,
    settings,
    with_defaults,
)
from assets.graph.interfaces import Compute, Landing, Perception, Store, Surroundings
from assets.graph.schemas import (
    ENTITY_ANNOTATIONS,
    ENTITY_BOXES,
    ENTITY_MASKS,
    ENTITY_PHRASES,
    LAYOUT_BENCHMARK,
)
from assets.graph.steps import STEPS, provenance_of
from assets.pages.sheets import figure_jpeg
from evaluation.perception.roles import Role
from evaluation.tables.perception import MASKS, PHRASES


class EntityPhrasesConfig(DerivedConfig):
    """Settings of ``entity_phrases``. Which model finds the phrases stands in the profile."""

    max_words: int = Field(8, description="longer phrases are dropped", ge=1, le=64)


class EntityBoxesConfig(DerivedConfig):
    """Settings of ``entity_boxes``. Which detectors annotate stands in the profile."""


class EntityAnnotationsConfig(DerivedConfig):
    """Settings of ``entity_annotations``: filters, in the order in which they strike."""

    min_score: float = Field(
        0.3, description="entities whose phrase fits the box less are dropped", ge=0, le=1
    )
    min_detector_score: float = Field(
        0.0, description="boxes of which the detector is less sure are dropped", ge=0, le=1
    )
    min_area: float = Field(0.02, description="boxes below this share of the image are dropped", ge=0, le=1)
    max_overlap_iou: float = Field(
        0.9, description="of two boxes overlapping more, the weaker is dropped", ge=0, le=1
    )
    min_entities: int = Field(1, description="images with fewer entities keep none", ge=0, le=100)
    max_entities: int = Field(4, description="entities kept per image, strongest first", ge=1, le=100)


class EntityMasksConfig(DerivedConfig):
    """Settings of ``entity_masks``. Which model draws them stands in the profile; it may be none."""


class LayoutBenchmarkConfig(dg.Config):
    """Settings of ``layout_benchmark``."""

    min_entities: int = Field(1, description="fewest entities of a prompt", ge=1, le=10)
    max_entities: int = Field(10, description="most entities of a prompt, strongest first", ge=1, le=100)


class AnnotationPagesConfig(dg.Config):
    """Settings of ``annotation_pages``."""

    max_samples: int = Field(
        400, description="samples on the page, dealt out over the reasons for drops", ge=1, le=2_000
    )


CONFIGS: Mapping[str, type[dg.Config]] = {
    "entity_phrases": EntityPhrasesConfig,
    "entity_boxes": EntityBoxesConfig,
    "entity_annotations": EntityAnnotationsConfig,
    "entity_masks": EntityMasksConfig,
    "layout_benchmark": LayoutBenchmarkConfig,
    "annotation_pages": AnnotationPagesConfig,
}
_ROLES: Mapping[str, Role] = {
    "entity_phrases": "phrases",
    "entity_masks": "masks",
}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    perception = surroundings.perception
    if name == "entity_boxes":
        return {f"detector:{key}": model.digest for key, model in perception.detectors().items()}
    if name == "entity_annotations":
        return annotation_inputs(perception)
    if name in ("layout_benchmark", "annotation_pages"):
        return concept_inputs(surroundings.landing)
    return model_inputs(perception, _ROLES.get(name))


def annotation_inputs(perception: Perception) -> dict[str, str]:
    """The describer, and which of the detectors annotates: their order is the profile's, and it decides."""
    annotators = list(perception.detectors().items())[:1]
    found = {f"annotator:{name}": detector.digest for name, detector in annotators}
    return {**model_inputs(perception, "describer"), **found}


def entity_phrases(
    context: dg.AssetExecutionContext,
    config: EntityPhrasesConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """What the best caption of each image names: the phrases that a detector is then asked to find.

    Phrases that name no thing ("a blue background", "the left") stay with the reason why they go no further.
    """
    from assets.entities.annotating import caption_units, captions_to_read
    from assets.entities.phrases import select_phrases

    key, step = context.partition_key, STEPS["entity_phrases"]
    model = perception.model("phrases")
    provenance = provenance_of(store, step, key, settings(config), model_inputs(perception, "phrases"))
    if model is None:
        return materialized(
            store, store.write_table(step.name, ENTITY_PHRASES.empty_table(), provenance, key)
        )
    captions = captions_to_read(store, key)
    form = (PHRASES, ["sample_id", "phrase_index"], step.function_version)
    done = refresh_table(
        store, compute, Derivation(step.name, step.name, model, "sample_id", *form),
        caption_units(captions, model), provenance, key, context.log.info,
        retry_failed=config.retry_failed,
        select=lambda rows: select_phrases(rows, captions, config.max_words),
    )  # fmt: skip
    metadata = {
        **done.counts,
        "phrases_kept": int(pc.sum(done.table["keep"]).as_py() or 0),
        "phrases_dropped": dg.MetadataValue.json(dropped_counts(done.table)),
        "model": model.name,
    }
    return materialized(store, done.manifest, metadata, schema=ENTITY_PHRASES)


def entity_boxes(
    context: dg.AssetExecutionContext,
    config: EntityBoxesConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """Where the phrases are: boxes of every detector of the profile, unfiltered, each with both scores.

    The first detector annotates; boxes of the others are there to be compared with it (see `data_quality`). A profile
    without detectors annotates nothing.
    """
    from assets.entities.annotating import annotated_boxes, detect

    key, step = context.partition_key, STEPS["entity_boxes"]
    detectors = perception.detectors()
    outside = {f"detector:{name}": model.digest for name, model in detectors.items()}
    provenance = provenance_of(store, step, key, settings(config), outside)
    found = {
        name: detect(store, compute, name, model, key, context.log.info, retry_failed=config.retry_failed)
        for name, model in detectors.items()
    }
    manifest = store.write_table(step.name, annotated_boxes(found), provenance, key)
    counts: dict[str, Any] = {}
    for name, derived in found.items():
        derived.finish(provenance)
        label = "" if len(found) == 1 else f"{name}: "
        counts |= {f"{label}{figure}": value for figure, value in derived.counts.items()}
    return materialized(store, manifest, {**counts, "detectors": ", ".join(detectors)}, schema=ENTITY_BOXES)


def entity_annotations(
    context: dg.AssetExecutionContext,
    config: EntityAnnotationsConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """Entities with normalised boxes, a phrase and a description each: what layout control trains on.

    Boxes that a filter dropped stay with the reason, so that a threshold can be judged by looking at them. Only what
    is kept gets a description; a changed threshold re-selects and describes only what was never described.
    """
    from assets.entities.annotating import describe
    from assets.entities.selection import join_descriptions, select_entities
    from assets.entities.sheets import entity_sheet

    key, step = context.partition_key, STEPS["entity_annotations"]
    provenance = provenance_of(store, step, key, settings(config), annotation_inputs(perception))
    if not perception.detectors():
        return materialized(
            store, store.write_table(step.name, ENTITY_ANNOTATIONS.empty_table(), provenance, key)
        )
    model = required(perception, "describer")
    boxes = store.read_table("entity_boxes", key)
    first = boxes.filter(pc.equal(boxes["annotator"], next(iter(perception.detectors()))))
    selected = select_entities(first, **settings(config))
    described = describe(
        store, compute, model, selected, provenance, key, context.log.info, retry_failed=config.retry_failed
    )
    table = join_descriptions(selected, described.table)
    manifest = store.write_table(step.name, table, provenance, key)
    shown = pc.unique(table["sample_id"]).slice(0, 18).to_pylist()
    metadata = {
        **described.counts,
        "entities_kept": int(pc.sum(table["keep"]).as_py() or 0),
        "entities_dropped": dg.MetadataValue.json(dropped_counts(table)),
        "describer": model.name,
        "examples": picture(
            entity_sheet(landed_of(store, key, shown, ["sample_id", "image"]), table),
            "kept entities with their boxes; dropped ones dashed",
        ),
    }
    return materialized(store, manifest, metadata, schema=ENTITY_ANNOTATIONS)


def entity_masks(
    context: dg.AssetExecutionContext,
    config: EntityMasksConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """Which pixels of its box each kept entity covers. Empty where the profile names no model for masks.

    Masks of entities that a threshold has dropped since stay, as their descriptions do.
    """
    from assets.entities.annotating import entity_units, kept_entities, with_samples

    key, step = context.partition_key, STEPS["entity_masks"]
    model = perception.model("masks")
    provenance = provenance_of(store, step, key, settings(config), model_inputs(perception, "masks"))
    if model is None:
        return materialized(store, store.write_table(step.name, ENTITY_MASKS.empty_table(), provenance, key))
    annotations = store.read_table("entity_annotations", key)
    entities, ever = kept_entities(annotations), frozenset(annotations["entity_id"].to_pylist())
    derivation = Derivation(
        step.name, step.name, model, "entity_id", MASKS, ["entity_id"], step.function_version
    )
    done = refresh_table(
        store, compute, derivation, entity_units(store, key, model, entities, ever), provenance, key, context.log.info,
        retry_failed=config.retry_failed,
        select=lambda rows: with_samples(rows, annotations),
    )  # fmt: skip
    metadata = {**done.counts, "entities": entities.num_rows, "model": model.name}
    return materialized(store, done.manifest, metadata, schema=ENTITY_MASKS)


def layout_benchmark(
    context: dg.AssetExecutionContext,
    config: LayoutBenchmarkConfig,
    store: dg.ResourceParam[Store],
    landing: dg.ResourceParam[Landing],
    perception: dg.ResourceParam[Perception],
) -> dg.MaterializeResult:
    """Prompts with boxes and attributes in the manner of LayoutSAM-Eval, held out by concept.

    The gate looks for its images, and near copies of them, among what models train on; `training_shards` obeys it.
    """
    from assets.corpus.curation import mark_duplicates
    from assets.entities.benchmark import BenchmarkSources
    from assets.entities.benchmark import layout_benchmark as assemble

    step, names = STEPS["layout_benchmark"], held_out_names(landing)
    provenance = provenance_of(store, step, None, settings(config), concept_inputs(landing))
    sources = BenchmarkSources(
        annotations=store.read_all("entity_annotations"),
        recaptions=store.read_all("recaptions"),
        curated=mark_duplicates(store.read_all("curated_images")),
        alt_texts=store.read_all("landed_images", ["sample_id", "alt_text"]),
    )
    annotator = next(iter(perception.detectors()), "")
    table, gate = assemble(sources, names, annotator, config.min_entities, config.max_entities)
    manifest = store.write_table(step.name, table, provenance, gate=gate)
    prompts = {"prompts": gate.findings["prompts"], "boxes": table.num_rows}
    checks = [
        gate_check("no_leaks", gate),
        check_result(
            "has_prompts",
            table.num_rows > 0,
            {**prompts, "why": gate.findings.get("empty_because", "")},
            blocking=False,
        ),
    ]
    return materialized(store, manifest, prompts, checks, schema=LAYOUT_BENCHMARK)


def annotation_pages(
    context: dg.AssetExecutionContext,
    config: AnnotationPagesConfig,
    store: dg.ResourceParam[Store],
    landing: dg.ResourceParam[Landing],
) -> dg.MaterializeResult:
    """One static page to browse annotated samples: by concept, score, and the reason why something was dropped."""
    from assets.entities.distributions import distribution_figures
    from assets.entities.pages import write_annotation_pages

    step = STEPS["annotation_pages"]
    provenance = provenance_of(store, step, None, settings(config), concept_inputs(landing))
    with tempfile.TemporaryDirectory(prefix="foundry-pages-") as scratch:
        facts = write_annotation_pages(Path(scratch), store, config.max_samples, concept_names(landing))
        manifest = store.publish_folder(step.name, Path(scratch), provenance)
    figures = distribution_figures(store.read_all("entity_annotations"))
    if figures:
        keep_figures(store, "entity_figures", figures, provenance)
    page = store.local_folder(step.name) / "index.html"
    metadata = {
        **facts,
        "page": dg.MetadataValue.url(page.as_uri()),
        **{name.removesuffix(".png"): picture(figure_jpeg(png), name) for name, png in figures.items()},
    }
    return materialized(store, manifest, metadata)


def build_definitions(
    partitions: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    leaks = check_spec(
        "layout_benchmark",
        "no_leaks",
        "No picture of the benchmark, nor a near copy of one, is among those that models train on.",
        blocking=True,
    )
    prompts = check_spec(
        "layout_benchmark",
        "has_prompts",
        "There is at least one prompt to measure layout control on.",
        blocking=False,
    )
    by_group: list[Callable[..., Any]] = [entity_phrases, entity_boxes, entity_annotations, entity_masks]
    return [
        *(build_asset(body, configs[body.__name__], partitions=partitions, pool=pool) for body in by_group),
        build_asset(
            layout_benchmark,
            configs["layout_benchmark"],
            checks=[leaks, prompts],
            automation=dg.AutomationCondition.eager(),
        ),
        build_asset(annotation_pages, configs["annotation_pages"], automation=dg.AutomationCondition.eager()),
    ]
