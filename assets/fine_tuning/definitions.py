"""Asset of fine-tuning: any model of the graph trained on, all weights or adapters; after pruning that is recovery."""

from pathlib import Path

import dagster as dg

from assets.fine_tuning.configs import FineTunedConfig
from assets.fine_tuning.parents import reference_version
from assets.graph.definitions import check_result, gate_check, materialized, picture
from assets.graph.interfaces import Compute, Models, Store
from assets.models.children import prepare_child
from assets.models.training_runs import publish, run_metadata
from training.errors import FoundryError
from training.recipes.specification import Recipe


def fine_tuned_backbone(
    context: dg.AssetExecutionContext,
    config: FineTunedConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A model trained on from its parent's weights by the one loop: all of them, or low-rank adapters (LoRA).

    Of a pruned parent this is recovery, and its page holds it beside the whole model that was pruned; of any other
    beside its parent: sizes, speed, the judge's score and pictures from the same noise.
    """
    from assets.models.backbones import gate_of_model, loss_curve, smaller_card
    from assets.models.comparison import Drawing, compare_smaller, gate_of_score, smaller_markdown
    from assets.models.drawing import drawing_place, drawing_resources

    key, name = context.partition_key, "fine_tuned_backbone"
    child = prepare_child(store, models, name, key, config)
    check_can_be_tuned(child.recipe, child.parent_folder)
    reference = reference_version(models.recipes, key)
    run = child.train(models, compute, context.log.info)
    drawing = Drawing(config.prompts_per_split, config.num_steps, config.guidance)
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    compared = compare_smaller(
        store, place, store.local_folder(*reference, require_gate=True), run.folder.model, drawing,
        recipe=key, parent_name=" ".join(reference), digest=run.done.model_digest,
    )  # fmt: skip
    gate, score = gate_of_model(run), gate_of_score(compared.score)
    table = smaller_markdown(compared.table)
    card = smaller_card(run, models.profile, table)
    manifest = publish(store, name, key, run, child.provenance, gate, card)
    compared.keep(store, (name, key), reference, child.provenance)
    metadata = {
        **run_metadata(run),
        "parent": child.parent_name,
        "compared_with": " ".join(reference),
        "adapters": "none" if child.recipe.lora is None else f"LoRA of rank {child.recipe.lora.rank}",
        "comparison": dg.MetadataValue.md(table),
        "samples": picture(compared.sheet, "reference above, fine-tuned below, from the same noise"),
        "loss_curve": picture(loss_curve(run.folder), "training loss over images seen"),
    }
    checks = [
        gate_check("finite_and_reloads", gate),
        check_result("score_within_margin", score.passed, score.findings, blocking=False),
    ]
    return materialized(store, manifest, metadata, checks)


def check_can_be_tuned(recipe: Recipe, parent: Path) -> None:
    """Refuse a few-step parent: the denoising loss would teach it to answer with blurred means again."""
    from training.diffusion.few_step_schedulers import is_few_step

    if is_few_step(parent):
        raise FoundryError(
            f"recipe '{recipe.name}': its parent '{recipe.parent}' draws in few steps, which objective 'diffusion' would "
            "unteach; fine-tune its teacher and distil again"
        )
