"""Asset of layout control: models that are told where things stand."""

import dagster as dg

from assets.graph.definitions import gate_check, materialized, picture
from assets.graph.interfaces import Compute, Models, Store, Surroundings
from assets.layout.configs import LayoutModelConfig
from assets.models.children import prepare_child
from assets.models.training_runs import publish, run_metadata


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
    from assets.layout.measuring import measure_following
    from assets.layout.scores import layout_markdown
    from assets.models.backbones import gate_of_model, loss_curve, smaller_card
    from assets.models.drawing import drawing_place, drawing_resources
    from training.recipes.layout import LayoutTrainingOptions

    key, name = context.partition_key, "layout_model"
    child = prepare_child(store, models, name, key, config)
    run = child.train(models, compute, context.log.info)
    max_boxes = child.recipe.options_of(LayoutTrainingOptions).branch.max_boxes
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    followed = measure_following(
        store, surroundings.perception, place, run.folder.model, config, max_boxes,
        recipe=key, digest=run.done.model_digest,
    )  # fmt: skip
    table, gate = layout_markdown(followed.scores), gate_of_model(run)
    card = smaller_card(run, models.profile, table)
    manifest = publish(store, name, key, run, child.provenance, gate, card)
    store.write_table("layout_scores", followed.scores, child.provenance, key)
    metadata = {
        **run_metadata(run),
        "base": child.parent_name,
        "scores": dg.MetadataValue.md(table),
        "samples": picture(followed.sheet, "real, without, with, exchanged; from the same noise"),
        "loss_curve": picture(loss_curve(run.folder), "weighted loss over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])
