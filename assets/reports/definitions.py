"""Assets of the group ``reports``: what was measured, what follows from it, and the page that shows it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from assets.definitions import build_asset, materialized, picture, with_defaults
from assets.interfaces import Landing, Models, Store, Surroundings
from assets.steps import STEPS, provenance_of
from evaluation.schemas import EVALUATION_TABLE


class EvaluationTableConfig(dg.Config):
    """Settings of ``evaluation_table``."""

    distractors: int = Field(8, description="the judge picks the prompt out of so many", ge=2)


class ScalingLawsConfig(dg.Config):
    """Settings of ``scaling_laws``."""

    resamples: int = Field(10_000, description="bootstrap resamples behind each interval", ge=100)


class ReportConfig(dg.Config):
    """Settings of ``report``."""

    prompts_shown: int = Field(12, description="held-out prompts whose pictures are shown", ge=1)


CONFIGS: Mapping[str, type[dg.Config]] = {
    "evaluation_table": EvaluationTableConfig,
    "scaling_laws": ScalingLawsConfig,
    "report": ReportConfig,
}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read beside the graph's own versions."""
    truth = surroundings.store.current("scene_truth")
    return {"scene_truth": truth.digest} if name == "evaluation_table" and truth is not None else {}


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
    from assets.reports.evaluating import evaluate, summary_markdown

    step = STEPS["evaluation_table"]
    inputs = other_inputs(step.name, config, surroundings)
    provenance = provenance_of(store, step, None, config.model_dump(), inputs)
    tables = evaluate(store, models, config.distractors, step.function_version, context.log.info)
    for name, table in tables.items():
        if name != step.name:
            store.write_table(name, table, provenance)
    manifest = store.write_table(step.name, tables[step.name], provenance)
    metadata = {"models": dg.MetadataValue.md(summary_markdown(tables[step.name]))}
    return materialized(store, manifest, metadata, schema=EVALUATION_TABLE)


def scaling_laws(
    context: dg.AssetExecutionContext,
    config: ScalingLawsConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Power laws per family on the metric that all targets share; where the data cannot tell, that is what it says."""
    from assets.reports.laws import fit_families, law_picture, laws_markdown, laws_table

    provenance = provenance_of(store, STEPS["scaling_laws"], None, config.model_dump())
    observations = store.read_table("scaling_observations")
    fits = fit_families(observations, config.resamples)
    manifest = store.write_table("scaling_laws", laws_table(fits), provenance)
    metadata = {
        "laws": dg.MetadataValue.md(laws_markdown(fits)),
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

    from assets.reports.building import build_report

    provenance = provenance_of(store, STEPS["report"], None, config.model_dump())
    with tempfile.TemporaryDirectory(prefix="foundry-report-") as scratch:
        page = build_report(Path(scratch), store, landing, models, config.prompts_shown)
        manifest = store.publish_folder("report", page.parent, provenance)
    metadata = {"page": dg.MetadataValue.path(str(store.local_folder("report") / page.name))}
    return materialized(store, manifest, metadata)


def build_definitions(
    partitions: dg.PartitionsDefinition | None, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults; none is partitioned."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    return [build_asset(body, configs[body.__name__]) for body in (evaluation_table, scaling_laws, report)]
