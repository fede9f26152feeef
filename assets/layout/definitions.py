"""Assets of layout control: models that are told where things stand."""

from typing import Any

import dagster as dg

from assets.derivation.inputs import model_inputs
from assets.graph.definitions import gate_check, materialized, picture
from assets.graph.interfaces import Compute, Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.layout.configs import LayoutEvaluationConfig, LayoutModelConfig, ShippedLayoutModelConfig
from assets.models.children import prepare_child
from assets.models.configs import resolved_config
from assets.models.parents import named_versions
from assets.models.training_runs import publish, run_metadata
from evaluation.perception.roles import Role
from evaluation.tables.scores import LAYOUT_EVALUATION

LOOKED_BY: tuple[Role, ...] = ("closed_set", "answers", "detector", "regions")
"""Roles of perception that ``layout_evaluation`` asks."""


def shipped_layout_model(
    context: dg.AssetExecutionContext,
    config: ShippedLayoutModelConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """A shipped teacher with the layout branch that ships for it (SiamLayout), and whether it follows boxes here.

    Trained far longer than the demo can. Its page says what it scored when it was packed, and shows held-out layouts of
    this workspace drawn without their boxes, with them and with left and right exchanged, from the same noise.
    """
    from assets.layout.measuring import measure_following
    from assets.layout.scores import layout_markdown
    from assets.models.backbones import gate_of_folder
    from assets.models.drawing import drawing_place, drawing_resources
    from training.layout.shipping import LAYOUT_MODELS, assemble_layout_model
    from training.model_folders.teachers import CURVE, read_scores

    key, step = context.partition_key, STEPS["shipped_layout_model"]
    named = named_versions(models.recipes, step.name, key)
    recorded = resolved_config(step.name, key, config, models)
    provenance = provenance_of(store, step, key, recorded, named=named)
    teacher = store.local_folder(*named[0], require_gate=True)
    folder = assemble_layout_model(key, teacher, models.runs.parent / "layout_models" / key)
    gate = gate_of_folder(folder, config.tolerance)
    manifest = store.publish_folder(step.name, folder, provenance, key, gate)
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    followed = measure_following(
        store, surroundings.perception, place, folder, config, recipe=key, digest=manifest.digest
    )
    followed.keep(store, provenance, key)
    packed = read_scores(key, LAYOUT_MODELS)
    metadata = {
        "base": " ".join(named[0]),
        "scores": dg.MetadataValue.md(layout_markdown(followed.scores)),
        "scores_when_packed": dg.MetadataValue.md(packed["table"]),
        "branch_parameters": packed["branch_parameters"],
        "images_seen": packed["images_seen"],
        "samples": picture(followed.sheet, "real, without, with, exchanged; from the same noise"),
        "loss_curve": picture(
            (LAYOUT_MODELS / key / CURVE).read_bytes(), "its training's loss over images seen"
        ),
    }
    return materialized(store, manifest, metadata, [gate_check("reloads", gate)])


def layout_model(
    context: dg.AssetExecutionContext,
    config: LayoutModelConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """A frozen backbone with a branch that is told where things stand, trained on the graph's own annotations (CreatiLayout).

    Its folder holds base and branch together, and the branch apart in `layout_branch`. The page shows held-out layouts
    drawn without their boxes, with them and with left and right exchanged, all from the same noise, and how many of the
    objects are recognised in their box.
    """
    from assets.layout.learning import kept_counts, learning_of, learning_picture
    from assets.layout.measuring import measure_following
    from assets.layout.scores import layout_markdown
    from assets.models.backbones import gate_of_model, loss_curve, smaller_card
    from assets.models.drawing import drawing_place, drawing_resources
    from assets.pages.sheets import figure_jpeg

    key, name, perception = context.partition_key, "layout_model", surroundings.perception
    child = prepare_child(store, models, name, key, config)
    run = child.train(models, compute, context.log.info, kept_counts(child.recipe, config.curve_parts))
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    digest = run.done.model_digest
    followed = measure_following(
        store, perception, place, run.folder.model, config, recipe=key, digest=digest
    )
    curve = learning_of(store, perception, place, run.folder, config, run.done.images_seen)
    table, gate = layout_markdown(followed.scores), gate_of_model(run)
    card = smaller_card(run, models.profile, table)
    manifest = publish(store, name, key, run, child.provenance, gate, card)
    followed.keep(store, child.provenance, key)
    metadata = {
        **run_metadata(run),
        "base": child.parent_name,
        "scores": dg.MetadataValue.md(table),
        "samples": picture(followed.sheet, "real, without, with, exchanged; from the same noise"),
        "loss_curve": picture(loss_curve(run.folder), "weighted loss over images seen"),
    }
    if curve:
        metadata["following"] = picture(
            figure_jpeg(learning_picture(curve)), "objects in their box as it learned"
        )
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


def layout_evaluation(
    context: dg.AssetExecutionContext,
    config: LayoutEvaluationConfig,
    store: dg.ResourceParam[Store],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """All layout models side by side: how many objects each puts where boxes say, and whether they follow exchanged boxes.

    Every model draws the same held-out layouts from the same noise, so that two are held together picture by picture. With a
    model in perception's role `answers` LayoutSAM-Eval's questions are asked about every box (all answers are kept in the
    table `layout_answers`), and the judge is asked about real pictures, whose truth is known.
    """
    from assets.layout.evaluation import (
        Judges,
        compared_models,
        evaluation_markdown,
        evaluation_of,
        evaluation_sheet,
        keep_answers,
    )
    from assets.layout.questions import agreement_markdown, agreement_on_real

    step, perception = STEPS["layout_evaluation"], surroundings.perception
    inputs = {name: value for role in LOOKED_BY for name, value in model_inputs(perception, role).items()}
    provenance = provenance_of(store, step, None, config.model_dump(), inputs)
    judges, looking = Judges.of(store, perception), perception.model("closed_set")
    models = compared_models(store, judges)
    table = evaluation_of(models, looking.name if looking else "")
    keep_answers(store, models, provenance)
    manifest = store.write_table(step.name, table, provenance)
    metadata: dict[str, Any] = {"comparison": dg.MetadataValue.md(evaluation_markdown(table))}
    sheet = evaluation_sheet(store, models)
    if sheet is not None:
        metadata["samples"] = picture(sheet, "the same layouts by every model, boxes as they were told")
    if judges.judge is not None and judges.truth and models:
        asked = models[0].sample_ids[: config.agreement_pictures]
        agreement = agreement_on_real(store, judges.truth, asked, judges.judge)
        store.write_table("judge_agreement", agreement, provenance)
        metadata["judge_agreement"] = dg.MetadataValue.md(agreement_markdown(agreement))
    return materialized(store, manifest, metadata, schema=LAYOUT_EVALUATION)
