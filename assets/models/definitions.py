"""Assets of the group ``models``: what is trained, and what it draws."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.definitions import (
    build_asset,
    check_result,
    check_spec,
    gate_check,
    materialized,
    picture,
    with_defaults,
)
from assets.interfaces import Compute, Landing, Models, Store
from assets.models.configs import (
    CONFIGS,
    BackboneAnalysisConfig,
    BackboneConfig,
    DistillationStudyConfig,
    DistilledConfig,
    GeneratedSamplesConfig,
    JudgeConfig,
    StepDistilledConfig,
    TeacherConfig,
    other_inputs,
    parent_of,
    recipe_overrides,
    resolved_config,
    student_config,
)
from assets.models.parents import child_sources, parent_version
from assets.models.partitions import ModelPartitions
from assets.models.training_runs import publish, resolve_recipe, run_metadata, train_to_end
from assets.steps import STEPS, provenance_of
from evaluation.schemas import BACKBONE_ANALYSIS, DISTILLATION_STUDY, GENERATED_SAMPLES

__all__ = ["CONFIGS", "build_definitions", "other_inputs", "parent_of", "resolved_config"]


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
    from assets.models.sampling import preview
    from training.encoder_settings import encoder_digest

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
    metadata = {
        **run_metadata(run),
        "loss_curve": picture(loss_curve(run), "training loss over images seen"),
        "samples": picture(preview(paths["dataset"], run.folder.model, key), "for held-out prompts"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


def step_distilled_backbone(
    context: dg.AssetExecutionContext,
    config: StepDistilledConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A student that draws in one to four steps what its teacher, a backbone, draws in many (consistency distillation).

    Guidance is built in, so sample it without. Its page holds the two side by side: the judge's cosine by number of
    steps, with intervals, and pictures from the same noise.
    """
    from assets.models.backbones import gate_of_model, loss_curve, student_card
    from assets.models.few_steps import built_in_guidance, compare_with_teacher, scores_markdown
    from training.encoder_settings import encoder_digest

    key, step = context.partition_key, STEPS["step_distilled_backbone"]
    settings = student_config(models.step_distilled[key], config)
    recipe = resolve_recipe(models.step_distilled[key], recipe_overrides(config))
    parent = parent_version(models, step.name, recipe)
    other = {"text_encoder": encoder_digest(models.text_encoder)}
    provenance = provenance_of(store, step, key, settings, other, parent)
    sources = child_sources(store, provenance, parent)
    run = train_to_end(recipe, {**sources.digests, **other}, sources.paths, models, compute, context.log.info)
    gate = gate_of_model(run)
    compared = compare_with_teacher(
        store,
        sources.paths["parent"],
        run.folder.model,
        recipe,
        run.done.model_digest,
        config.prompts_per_split,
    )
    card = student_card(run, models.profile, scores_markdown(compared.table), built_in_guidance(recipe))
    manifest = publish(store, step.name, key, run, provenance, gate, card)
    store.write_table("few_step_scores", compared.table, provenance, key)
    metadata = {
        **run_metadata(run),
        "teacher": f"{parent[0]} {parent[1]}",
        "guidance_built_in": built_in_guidance(recipe),
        "steps": dg.MetadataValue.md(scores_markdown(compared.table)),
        "samples": picture(compared.sheet, "teacher and student by number of steps"),
        "loss_curve": picture(loss_curve(run), "distance to the target network over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


def teacher_backbone(
    context: dg.AssetExecutionContext,
    config: TeacherConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A trained backbone that ships with the project: what is distilled, pruned and controlled here starts from it.

    Trained far longer than the demo can (`foundry teachers` makes it again, from landed scenes to scores). Its page
    says what it scored on held-out scenes when it was packed, and where it falls short.
    """
    from assets.models.backbones import gate_of_folder
    from assets.models.teachers import scores_markdown
    from training.teachers import SHEET, assemble_teacher, read_scores

    key, step = context.partition_key, STEPS["teacher_backbone"]
    provenance = provenance_of(store, step, key, resolved_config(step.name, key, config, models))
    folder = assemble_teacher(key, store.local_folder("autoencoder"), models.runs.parent / "teachers" / key)
    gate = gate_of_folder(folder, config.tolerance)
    manifest = store.publish_folder(step.name, folder, provenance, key, gate)
    scores = read_scores(key)
    metadata = {
        "scores": dg.MetadataValue.md(scores_markdown(scores)),
        "parameters": scores["num_parameters"],
        "images_seen": scores["images_seen"],
        "samples": picture((folder / SHEET).read_bytes(), "drawn for held-out prompts when it was packed"),
    }
    return materialized(store, manifest, metadata, [gate_check("reloads", gate)])


def distilled_backbone(
    context: dg.AssetExecutionContext,
    config: DistilledConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A smaller student cut out of its teacher and taught by its features (KOALA): what stays is in the recipe.

    Starts from the teacher's weights, pair by pair and layer by layer. Its page holds both side by side: parameters,
    multiply-adds, measured milliseconds, the judge's score relative to the teacher's, and pictures from the same noise.
    """
    from assets.models.backbones import gate_of_model, loss_curve, smaller_card
    from assets.models.smaller import (
        Drawing,
        compare_smaller,
        gate_of_score,
        gate_of_size,
        smaller_markdown,
    )
    from training.encoder_settings import encoder_digest
    from training.planning.students import planned_parameters

    key, step = context.partition_key, STEPS["distilled_backbone"]
    recipe = resolve_recipe(models.distilled[key], recipe_overrides(config))
    parent = parent_version(models, step.name, recipe)
    other = {"text_encoder": encoder_digest(models.text_encoder)}
    settings = student_config(models.distilled[key], config)
    provenance = provenance_of(store, step, key, settings, other, parent)
    sources = child_sources(store, provenance, parent)
    teacher = sources.paths["parent"]
    planned = planned_parameters(recipe, teacher)
    run = train_to_end(recipe, {**sources.digests, **other}, sources.paths, models, compute, context.log.info)
    drawing = Drawing(config.prompts_per_split, config.num_steps, config.guidance, models.resources.threads)
    compared = compare_smaller(
        store, teacher, run.folder.model, drawing,
        recipe=key, parent_name=f"{parent[0]} {parent[1]}", digest=run.done.model_digest,
    )  # fmt: skip
    table = smaller_markdown(compared.table)
    gate, size = gate_of_model(run), gate_of_size(run.done.num_parameters, planned)
    card = smaller_card(run, models.profile, table)
    manifest = publish(store, step.name, key, run, provenance, gate, card)
    store.write_table("smaller_model_scores", compared.table, provenance, key)
    metadata = {
        **run_metadata(run),
        "teacher": f"{parent[0]} {parent[1]}",
        "comparison": dg.MetadataValue.md(table),
        "samples": picture(compared.sheet, "parent above, child below, from the same noise"),
        "loss_curve": picture(loss_curve(run), "weighted sum of task, output and feature losses"),
    }
    checks = [
        gate_check("finite_and_reloads", gate),
        gate_check("parameters_as_planned", size),
        check_result(
            "score_within_margin",
            gate_of_score(compared.score).passed,
            gate_of_score(compared.score).findings,
            blocking=False,
        ),
    ]
    return materialized(store, manifest, metadata, checks)


def distillation_study(
    context: dg.AssetExecutionContext,
    config: DistillationStudyConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """The paper's factors of distillation, contrasted over seeds: kind of feature, stage, pairing, extras, teacher, data.

    Its trainings are the partitions `study.<cell>.<seed>` of `distilled_backbone`; launch them as one backfill, in any
    order. A difference inside the noise of seeds and prompts says so. Without a study in the profile the table is empty.
    """
    from assets.models.distillation_study import summarise_study

    step = STEPS["distillation_study"]
    provenance = provenance_of(store, step, None, config.model_dump())
    summary = summarise_study(store, models.distillation_study, config.level)
    manifest = store.write_table(step.name, summary.table, provenance)
    metadata = {
        "made": f"{summary.num_made} of {summary.num_planned} trainings",
        "study": dg.MetadataValue.md(summary.markdown),
    }
    return materialized(store, manifest, metadata, schema=DISTILLATION_STUDY)


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
    from assets.models.sampling import draw_samples, sample_sheet

    key, step = context.partition_key, STEPS["generated_samples"]
    provenance = provenance_of(store, step, key, config.model_dump())
    store.require("backbone", key, require_gate=True)
    table = draw_samples(
        store,
        compute,
        models.resources,
        recipe=key,
        prompts_per_split=config.prompts_per_split,
        num_steps=config.num_steps,
        guidance=config.guidance,
        seed=config.seed,
        function_version=step.function_version,
        log=context.log.info,
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
    from assets.models.analysis import analyse_recipe, analysis_tables
    from assets.sheets import figure_jpeg
    from evaluation.analysis.drawing import analysis_markdown, analysis_picture

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
    reloads, student_reloads, distilled_reloads = (
        check_spec(
            name,
            "finite_and_reloads",
            "The loss stayed finite, and the published folder reloads to the same output as the model that was trained.",
            blocking=True,
        )
        for name in ("backbone", "step_distilled_backbone", "distilled_backbone")
    )
    as_planned = check_spec(
        "distilled_backbone",
        "parameters_as_planned",
        "The model has exactly the parameters of the cut that its recipe describes.",
        blocking=True,
    )
    within_margin = check_spec(
        "distilled_backbone",
        "score_within_margin",
        "The judge's score is at most 10% below the teacher's, or the interval does not tell.",
        blocking=False,
    )
    teacher_reloads = check_spec(
        "teacher_backbone",
        "reloads",
        "The files are those that shipped, and answer a fixed input as they did when they were packed.",
        blocking=True,
    )
    finite = check_spec("judge_clip", "finite_loss", "The judge's loss stayed finite.", blocking=True)
    return [
        build_asset(judge_clip, configs["judge_clip"], checks=[finite], pool=pool),
        build_asset(
            backbone, configs["backbone"], partitions=partitions.backbones, checks=[reloads], pool=pool
        ),
        build_asset(
            teacher_backbone,
            configs["teacher_backbone"],
            partitions=partitions.teachers,
            checks=[teacher_reloads],
        ),
        build_asset(generated_samples, configs["generated_samples"], partitions=partitions.backbones),
        build_asset(
            step_distilled_backbone,
            configs["step_distilled_backbone"],
            partitions=partitions.step_distilled,
            checks=[student_reloads],
            pool=pool,
            mappings=partitions.step_distilled_parents,
        ),
        build_asset(
            distilled_backbone,
            configs["distilled_backbone"],
            partitions=partitions.distilled,
            checks=[distilled_reloads, as_planned, within_margin],
            pool=pool,
            mappings=partitions.distilled_parents,
        ),
        build_asset(distillation_study, configs["distillation_study"]),
        build_asset(backbone_analysis, configs["backbone_analysis"], partitions=partitions.backbones),
    ]
