"""Assets of the group ``models`` that are made of other models: shipped teachers, students, and what studies say of them."""

import dagster as dg

from assets.distillation.configs import (
    DistillationStudyConfig,
    DistilledConfig,
    StepDistilledConfig,
    TeacherConfig,
)
from assets.graph.definitions import gate_check, gate_checks, materialized, picture
from assets.graph.interfaces import Compute, Models, Store
from assets.graph.steps import STEPS, provenance_of
from assets.graph.versions import GateResult
from assets.models.children import prepare_child
from assets.models.configs import resolved_config
from assets.models.training_runs import publish, run_metadata
from evaluation.tables.scores import DISTILLATION_STUDY


def teacher_backbone(
    context: dg.AssetExecutionContext,
    config: TeacherConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A trained backbone that ships with the project: what is distilled, pruned and controlled here starts from it.

    Trained far longer than the demo can, by this graph from landed scenes to scores (its lineage says how). Its page
    says what it scored on held-out scenes when it was packed, and where it falls short.
    """
    from assets.distillation.teacher_scores import scores_markdown
    from assets.models.backbones import gate_of_folder
    from training.model_folders.teachers import CURVE, SHEET, assemble_teacher, read_scores

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
        "loss_curve": picture((folder / CURVE).read_bytes(), "its training's loss over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("reloads", gate)])


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
    from assets.distillation.few_steps import built_in_guidance, compare_with_teacher, scores_markdown
    from assets.models.backbones import gate_of_model, loss_curve, student_card
    from assets.models.drawing import drawing_place, drawing_resources, keep_pictures

    key, name = context.partition_key, "step_distilled_backbone"
    child = prepare_child(store, models, name, key, config)
    run = child.train(models, compute, context.log.info)
    gate, guidance = gate_of_model(run), built_in_guidance(child.recipe)
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    compared = compare_with_teacher(
        store,
        place,
        child.parent_folder,
        run.folder.model,
        child.recipe,
        run.done.model_digest,
        config.prompts_per_split,
    )
    card = student_card(run, models.profile, scores_markdown(compared.table), guidance)
    manifest = publish(store, name, key, run, child.provenance, gate, card)
    store.write_table("few_step_scores", compared.table, child.provenance, key)
    keep_pictures(store, (name, key), run.done.model_digest, compared.by_student, child.provenance)
    metadata = {
        **run_metadata(run),
        "teacher": child.parent_name,
        "guidance_built_in": guidance,
        "steps": dg.MetadataValue.md(scores_markdown(compared.table)),
        "samples": picture(compared.sheet, "teacher and student by number of steps"),
        "loss_curve": picture(loss_curve(run.folder), "distance to the target network over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


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
    from assets.distillation.student_gates import gates_of_student
    from assets.models.backbones import loss_curve, smaller_card
    from assets.models.comparison import Drawing, compare_smaller, smaller_markdown
    from assets.models.drawing import drawing_place, drawing_resources
    from training.planning.student_size import planned_parameters
    from training.recipes.distillation_study import is_study

    key, name = context.partition_key, "distilled_backbone"
    child = prepare_child(store, models, name, key, config)
    planned = planned_parameters(child.recipe, child.parent_folder)
    run = child.train(models, compute, context.log.info)
    drawing = Drawing(config.prompts_per_split, config.num_steps, config.guidance)
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    compared = compare_smaller(
        store, place, child.parent_folder, run.folder.model, drawing,
        recipe=key, parent_name=child.parent_name, digest=run.done.model_digest,
    )  # fmt: skip
    table = smaller_markdown(compared.table)
    gates = gates_of_student(run, planned, compared.score)
    holds = config.gate_score and not is_study(key)  # a study's students are there to be compared
    told_only = () if holds else ("score_within_margin",)
    gate = GateResult.all_of(found for check, found in gates.items() if check not in told_only)
    card = smaller_card(run, models.profile, table)
    manifest = publish(store, name, key, run, child.provenance, gate, card)
    compared.keep(store, (name, key), child.parent, child.provenance)
    metadata = {
        **run_metadata(run),
        "teacher": child.parent_name,
        "comparison": dg.MetadataValue.md(table),
        "samples": picture(compared.sheet, "parent above, child below, from the same noise"),
        "loss_curve": picture(loss_curve(run.folder), "weighted sum of task, output and feature losses"),
    }
    return materialized(store, manifest, metadata, gate_checks(gates, told_only))


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
    from assets.distillation.study import study_picture, summarise_study
    from assets.pages.sheets import figure_jpeg

    step = STEPS["distillation_study"]
    provenance = provenance_of(store, step, None, config.model_dump())
    summary = summarise_study(store, models.distillation_study, config.level)
    manifest = store.write_table(step.name, summary.table, provenance)
    metadata = {
        "made": f"{summary.num_made} of {summary.num_planned} trainings",
        "study": dg.MetadataValue.md(summary.markdown),
    }
    png = study_picture(summary.table.to_pylist())
    if png is not None:
        metadata["picture"] = picture(figure_jpeg(png), "differences with their intervals")
    return materialized(store, manifest, metadata, schema=DISTILLATION_STUDY)
