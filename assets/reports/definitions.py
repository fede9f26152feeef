"""Assets of the group ``reports``: what was measured, what follows from it, and the page that shows it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from assets.corpus.concepts import concept_inputs
from assets.graph.definitions import build_asset, keep_figures, materialized, picture, settings, with_defaults
from assets.graph.interfaces import Landing, Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.pages.measures import MEASURES
from assets.pages.sheets import figure_jpeg
from evaluation.tables.scores import EVALUATION_TABLE


class EvaluationTableConfig(dg.Config):
    """Settings of ``evaluation_table``."""

    distractors: int = Field(8, description="the judge picks the prompt out of so many", ge=2)


class DataQualityConfig(dg.Config):
    """Settings of ``data_quality``."""

    images_per_split: int = Field(200, description="images that the judge looks at in each split", ge=2)
    resamples: int = Field(500, description="bootstrap resamples behind each interval", ge=50)


class ScalingLawsConfig(dg.Config):
    """Settings of ``scaling_laws``."""

    resamples: int = Field(10_000, description="bootstrap resamples behind each interval", ge=100)


class ReportConfig(dg.Config):
    """Settings of ``report``."""

    prompts_shown: int = Field(12, description="held-out prompts whose pictures are shown", ge=1)


CONFIGS: Mapping[str, type[dg.Config]] = {
    "evaluation_table": EvaluationTableConfig,
    "data_quality": DataQualityConfig,
    "scaling_laws": ScalingLawsConfig,
    "report": ReportConfig,
}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read beside the graph's own versions."""
    truth = surroundings.store.current("scene_truth")
    if name not in ("evaluation_table", "data_quality") or truth is None:
        return {}
    concepts = concept_inputs(surroundings.landing) if name == "data_quality" else {}
    return {"scene_truth": truth.digest, **concepts}


def evaluation_table(
    context: dg.AssetExecutionContext,
    config: EvaluationTableConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """One row per model and held-out split: denoising error, alignment beside ceiling and floor, KID, cost.

    The judge is scored here too, on real held-out pictures. A model whose checks failed is refused.
    """
    from assets.evaluation.evaluation_table import evaluate
    from assets.evaluation.summary import summary_rows
    from assets.pages.markdown import markdown_table
    from assets.pages.tables import table_of_records

    step = STEPS["evaluation_table"]
    inputs = other_inputs(step.name, config, surroundings)
    provenance = provenance_of(store, step, None, config.model_dump(), inputs)
    tables = evaluate(store, models, config.distractors, step.function_version, context.log.info)
    for name, table in tables.items():
        if name != step.name:
            store.write_table(name, table, provenance)
    manifest = store.write_table(step.name, tables[step.name], provenance)
    metadata = {
        "models": dg.MetadataValue.md(markdown_table(table_of_records(summary_rows(tables[step.name]))))
    }
    return materialized(store, manifest, metadata, schema=EVALUATION_TABLE)


def data_quality(
    context: dg.AssetExecutionContext,
    config: DataQualityConfig,
    store: dg.ResourceParam[Store],
    landing: dg.ResourceParam[Landing],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """How good captions and annotations are: against the hidden truth, between annotators, and by the judge.

    Beside every figure stand its interval, what chance gets and what a perfect answer would. The truth table is read
    here to score, and by nothing that makes captions or entities.
    """
    from assets.corpus.concepts import drawings_by_look, held_out_names
    from assets.corpus.published import as_entity_boxes
    from assets.entities.quality import Known, quality_table
    from assets.entities.quality_figure import quality_figure
    from assets.pages.markdown import markdown_table
    from assets.pages.measures import measures_table

    step = STEPS["data_quality"]
    inputs = other_inputs(step.name, config, surroundings)
    provenance = provenance_of(store, step, None, settings(config), inputs)
    known = Known(drawings_by_look(landing), held_out_names(landing))
    judge = store.local_folder("judge_clip", require_gate=True)
    table = quality_table(
        store, known, judge, published=as_entity_boxes(landing.folder),
        images_per_split=config.images_per_split, resamples=config.resamples,
    )  # fmt: skip
    manifest = store.write_table(step.name, table, provenance)
    metadata: dict[str, Any] = {"measures": dg.MetadataValue.md(markdown_table(measures_table(table)))}
    figure = quality_figure(table)
    if figure is not None:
        kept = keep_figures(store, "data_quality_figures", {"by_number_of_objects.png": figure}, provenance)
        metadata |= {
            "by_number_of_objects": picture(figure_jpeg(figure), "figures by number of objects"),
            "figures": dg.MetadataValue.path(kept),
        }
    return materialized(store, manifest, metadata, schema=MEASURES)


def scaling_laws(
    context: dg.AssetExecutionContext,
    config: ScalingLawsConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Power laws per family on the metric that all targets share; where the data cannot tell, that is what it says."""
    from assets.pages.markdown import markdown_table
    from assets.scaling.laws import fit_families, law_picture, laws_table, laws_view, of_recipes

    provenance = provenance_of(store, STEPS["scaling_laws"], None, config.model_dump())
    observations = of_recipes(store.read_table("scaling_observations"))
    fits = fit_families(observations, config.resamples)
    manifest = store.write_table("scaling_laws", laws_table(fits), provenance)
    metadata = {
        "laws": dg.MetadataValue.md(markdown_table(laws_view(fits))),
        "plot": picture(law_picture(observations, fits), "held-out denoising error over parameters"),
        "observations": observations.num_rows,
    }
    return materialized(store, manifest, metadata)


def report(
    context: dg.AssetExecutionContext,
    config: ReportConfig,
    store: dg.ResourceParam[Store],
    landing: dg.ResourceParam[Landing],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """One static page for people: models, samples, laws, perception's honesty, claims, times, credits and limits."""
    import tempfile

    from assets.pages.sections import Sources
    from assets.reports.sections import build_report

    provenance = provenance_of(store, STEPS["report"], None, config.model_dump())
    with tempfile.TemporaryDirectory(prefix="foundry-report-") as scratch:
        page = build_report(Path(scratch), Sources(store, landing, models, config.prompts_shown))
        manifest = store.publish_folder("report", page.parent, provenance)
    metadata = {"page": dg.MetadataValue.path(str(store.local_folder("report") / page.name))}
    return materialized(store, manifest, metadata)


def build_definitions(
    partitions: dg.PartitionsDefinition | None, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults; none is partitioned."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    return [
        build_asset(body, configs[body.__name__])
        for body in (evaluation_table, data_quality, scaling_laws, report)
    ]
