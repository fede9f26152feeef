"""Assets of the group ``models``: what is trained, and what it draws."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from assets.distillation.definitions import (
    distillation_study,
    distilled_backbone,
    step_distilled_backbone,
    teacher_backbone,
)
from assets.fine_tuning.definitions import fine_tuned_backbone
from assets.graph.definitions import (
    build_asset,
    check_spec,
    gate_check,
    materialized,
    picture,
    with_defaults,
)
from assets.graph.interfaces import Compute, Landing, Models, Store
from assets.graph.steps import STEPS, provenance_of
from assets.models.configs import (
    CONFIGS,
    BackboneAnalysisConfig,
    BackboneConfig,
    GeneratedSamplesConfig,
    JudgeConfig,
    other_inputs,
    resolved_config,
)
from assets.models.parents import named_versions
from assets.models.partitions import ModelPartitions
from assets.models.training_runs import publish, resolve_recipe, run_metadata, train_to_end
from assets.pruning.definitions import pruned_backbone, pruning_comparison, unit_scores
from evaluation.tables.analysis import BACKBONE_ANALYSIS
from evaluation.tables.samples import GENERATED_SAMPLES

__all__ = ["CONFIGS", "build_definitions", "named_versions", "other_inputs", "resolved_config"]


def backbone(
    context: dg.AssetExecutionContext,
    config: BackboneConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """One denoising backbone per recipe, trained by the one loop: the points of the scaling law.

    The run lives under its spec hash: terminate and launch again, and it goes on from its last checkpoint to the
    same weights. The result is a standard diffusers pipeline folder with its card and lineage inside.
    """
    from assets.models.backbones import backbone_card, gate_of_model, loss_curve
    from assets.models.drawing import drawing_place, drawing_resources, preview
    from training.recipes.text_encoder import encoder_digest

    key, step = context.partition_key, STEPS["backbone"]
    recipe = resolve_recipe(models.backbones[key], config.model_dump())
    other = {"text_encoder": encoder_digest(models.text_encoder)}
    provenance = provenance_of(store, step, key, recipe.settings(), other)
    paths = {
        "dataset": store.local_folder("training_shards", require_gate=True),
        "autoencoder": store.local_folder("autoencoder"),
    }
    digests = {
        "dataset": provenance.inputs["training_shards"],
        "autoencoder": provenance.inputs["autoencoder"],
        **other,
    }
    run = train_to_end(recipe, digests, paths, models, compute, context.log.info)
    gate = gate_of_model(run)
    manifest = publish(store, "backbone", key, run, provenance, gate, backbone_card(run, models.profile))
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    metadata = {
        **run_metadata(run),
        "loss_curve": picture(loss_curve(run), "training loss over images seen"),
        "samples": picture(preview(place, store, run.folder.model), "for held-out prompts"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


def judge_clip(
    context: dg.AssetExecutionContext,
    config: JudgeConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    landing: dg.ResourceParam[Landing],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """The judge of alignment: a small image-text model that shares nothing with whatever writes the captions.

    It trains on a split of its own with the original alt-texts; its score on real held-out images is the ceiling
    that stands beside every score it gives.
    """
    from assets.models.backbones import loss_curve
    from assets.models.judging import gate_of_judge, judge_card, write_judge_dataset

    step = STEPS["judge_clip"]
    recipe = resolve_recipe(models.judge, config.model_dump())
    provenance = provenance_of(store, step, None, recipe.settings())
    folder, digest = write_judge_dataset(store, models.runs.parent / "judge_dataset")
    run = train_to_end(recipe, {"dataset": digest}, {"dataset": folder}, models, compute, context.log.info)
    gate, ceiling = gate_of_judge(run, store)
    manifest = publish(
        store, "judge_clip", None, run, provenance, gate, judge_card(run, ceiling, models.profile)
    )
    metadata = {
        **run_metadata(run),
        **ceiling,
        "loss_curve": picture(loss_curve(run), "contrastive loss over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_loss", gate)])


def generated_samples(
    context: dg.AssetExecutionContext,
    config: GeneratedSamplesConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """What each backbone draws for the same held-out prompts from the same noise: the pictures people look at.

    A model whose checks failed is refused here, so nothing downstream scores a broken one.
    """
    from assets.models.drawing import draw_samples, drawing_place, sample_sheet

    key, step = context.partition_key, STEPS["generated_samples"]
    provenance = provenance_of(store, step, key, config.model_dump())
    store.require("backbone", key, require_gate=True)
    table = draw_samples(
        store,
        drawing_place(store, compute, models.resources, context.log.info),
        recipe=key,
        prompts_per_split=config.prompts_per_split,
        num_steps=config.num_steps,
        guidance=config.guidance,
        seed=config.seed,
        function_version=step.function_version,
    )
    manifest = store.write_table("generated_samples", table, provenance, key)
    metadata = {"samples": picture(sample_sheet(table), "drawn for held-out prompts")}
    return materialized(store, manifest, metadata, schema=GENERATED_SAMPLES)


def backbone_analysis(
    context: dg.AssetExecutionContext,
    config: BackboneAnalysisConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Where each backbone's parameters, multiply-adds and milliseconds lie, and how alike its blocks are.

    By stage and kind of layer, the parts adding up to the model; similarity across depth on noised training latents.
    From this table people choose what to cut. Milliseconds hold for the machine of this run and what else it does.
    """
    from assets.models.analysis import analyse_recipe, analysis_markdown, analysis_tables
    from assets.pages.sheets import figure_jpeg
    from evaluation.analysis.pictures import analysis_picture

    key, step = context.partition_key, STEPS["backbone_analysis"]
    provenance = provenance_of(store, step, key, config.model_dump())
    analysis = analyse_recipe(store, key, config.timed_runs, config.samples, models.resources.threads)
    tables = analysis_tables(store, key, analysis, step.function_version)
    store.write_table("block_similarities", tables["block_similarities"], provenance, key)
    manifest = store.write_table(step.name, tables[step.name], provenance, key)
    metadata = {
        "parts": dg.MetadataValue.md(analysis_markdown(analysis)),
        "picture": picture(figure_jpeg(analysis_picture(analysis)), "size, time and similarity across depth"),
    }
    return materialized(store, manifest, metadata, schema=BACKBONE_ANALYSIS)


def build_definitions(
    partitions: ModelPartitions, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets; ``partitions`` holds the names of the profile's recipes and whose children they are."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    checks = _check_specs()

    def build(body: Callable[..., Any], **options: Any) -> dg.AssetsDefinition:
        name = body.__name__
        return build_asset(body, configs[name], checks=checks.get(name, []), **options)

    return [
        build(judge_clip, pool=pool),
        build(backbone, partitions=partitions.backbones, pool=pool),
        build(teacher_backbone, partitions=partitions.teachers),
        build(generated_samples, partitions=partitions.backbones),
        build(
            step_distilled_backbone,
            partitions=partitions.step_distilled,
            pool=pool,
            mappings=partitions.step_distilled_parents,
        ),
        build(
            distilled_backbone,
            partitions=partitions.distilled,
            pool=pool,
            mappings=partitions.distilled_parents,
        ),
        build(distillation_study),
        build(
            unit_scores,
            partitions=partitions.unit_scores,
            pool=pool,
            mappings=partitions.unit_scores_parents,
        ),
        build(
            pruned_backbone,
            partitions=partitions.pruned,
            pool=pool,
            mappings=partitions.pruned_parents,
        ),
        build(
            fine_tuned_backbone,
            partitions=partitions.fine_tuned,
            pool=pool,
            mappings=partitions.fine_tuned_parents,
        ),
        build(pruning_comparison),
        build(backbone_analysis, partitions=partitions.backbones),
    ]


def _check_specs() -> dict[str, list[dg.AssetCheckSpec]]:
    """The checks that these assets report of themselves, by asset."""
    reloads = (
        "finite_and_reloads",
        "The loss stayed finite, and the published folder reloads to the same output as the model that was trained.",
        True,
    )
    told = {
        "judge_clip": [("finite_loss", "The judge's loss stayed finite.", True)],
        "backbone": [reloads],
        "step_distilled_backbone": [reloads],
        "distilled_backbone": [
            reloads,
            (
                "parameters_as_planned",
                "The model has exactly the parameters of the cut that its recipe describes.",
                True,
            ),
            (
                "score_within_margin",
                "The judge's score is at most 10% below the teacher's, or the interval does not tell; a warning with gate_score off.",
                True,
            ),
        ],
        "fine_tuned_backbone": [
            reloads,
            (
                "score_within_margin",
                "The judge's score is at most 10% below that of the parent (of the whole model where the parent was "
                "pruned), or the interval does not tell.",
                False,
            ),
        ],
        "pruned_backbone": [
            (
                "reloads",
                "The published folder reloads to the same output as the model that was cut.",
                True,
            ),
            (
                "parameters_as_planned",
                "The model has exactly the parameters that its plan of removal leaves.",
                True,
            ),
            (
                "no_weight_changed",
                "Every weight that survives is, byte by byte, the whole model's.",
                True,
            ),
            (
                "score_within_margin",
                "Up to 20% of units removed by ecodiff: the judge's score is at most 10% below the whole model's, "
                "or the interval does not tell. Larger cuts and baselines report and pass; a warning with gate_score off.",
                True,
            ),
        ],
        "teacher_backbone": [
            (
                "reloads",
                "The files are those that shipped, and answer a fixed input as they did when they were packed.",
                True,
            )
        ],
    }
    return {
        asset: [check_spec(asset, name, about, blocking=blocking) for name, about, blocking in checks]
        for asset, checks in told.items()
    }
