"""Assets of pruning (EcoDiff): scores of a model's units, models with units removed, and what methods make of the same share."""

import dagster as dg

from assets.graph.definitions import gate_checks, materialized, picture
from assets.graph.interfaces import Compute, Models, Store
from assets.graph.steps import STEPS, provenance_of
from assets.graph.versions import GateResult
from assets.models.configs import resolved_config
from assets.models.parents import named_versions, parent_version
from assets.pruning.configs import PrunedConfig, PruningComparisonConfig, UnitScoresConfig
from assets.pruning.parents import scoring_of, whole_version
from evaluation.tables.scores import PRUNING_COMPARISON
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest


def unit_scores(
    context: dg.AssetExecutionContext,
    config: UnitScoresConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """What every attention head and feed-forward neuron of a model is worth: masks learned end to end, or a baseline.

    Learned once, cut many times: its page shows the scores as a map, and what the model still draws when 10 to 50% of
    the units with the lowest ones are gone. Terminate and launch again, and learning goes on where it was.
    """
    from assets.models.drawing import drawing_place, drawing_resources
    from assets.pages.sheets import figure_jpeg
    from assets.pruning.pruned_model import cost_markdown, learning_curve, read_cost
    from assets.pruning.unit_scores import OUTSIDE_DIGEST, SCORES_FILE, score_model, sparsities_sheet
    from evaluation.analysis.mask_pictures import mask_heat_map
    from evaluation.plots.basic import png_bytes
    from training.pruning import read_scores

    key, name = context.partition_key, "unit_scores"
    recipe = models.of(name)[key]
    parent = parent_version(models.recipes, name, recipe)
    recorded = resolved_config(name, key, config, models)
    provenance = provenance_of(store, STEPS[name], key, recorded, named=[parent])
    folder = score_model(store, compute, models.resources, recipe, parent, models.runs, context.log.info)
    scores = read_scores(folder / SCORES_FILE)
    heat_map = png_bytes(mask_heat_map(scores, None))
    (folder / "heat_map.png").write_bytes(heat_map)
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    sheet = sparsities_sheet(
        store, place, store.local_folder(*parent), folder, config.num_steps, config.guidance
    )
    (folder / "sparsities.jpg").write_bytes(sheet)
    manifest = store.publish_folder(name, folder, provenance, key, outside_digest=OUTSIDE_DIGEST)
    curve = learning_curve(recipe, folder)
    metadata = {
        "model": " ".join(parent),
        "method": recipe.method,
        "units": sum(len(values) for values in scores.values()),
        "cost": dg.MetadataValue.md(cost_markdown(read_cost(folder))),
        "scores": picture(figure_jpeg(heat_map), "what each unit is worth"),
        "samples": picture(sheet, "whole, and with 10, 20, 30 and 50% of the units removed"),
        **({"learning": picture(curve, "loss over prompts")} if curve else {}),
    }
    return materialized(store, manifest, metadata)


def pruned_backbone(
    context: dg.AssetExecutionContext,
    config: PrunedConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A model with attention heads and neurons removed by their scores, and nothing trained afterwards (EcoDiff).

    A smaller pipeline folder that computes what masking the same units computes; every weight that survives is as it
    was. Its page holds both side by side: parameters, multiply-adds, milliseconds, memory, the judge's score relative to
    the whole model's, how far its answers are off step by step, and pictures from the same noise.
    """
    from assets.models.comparison import Drawing, compare_smaller, smaller_markdown
    from assets.models.drawing import drawing_place, drawing_resources
    from assets.models.training_runs import publish_with_card
    from assets.pruning import pruned_model
    from evaluation.analysis.step_errors import step_errors_table

    key, name = context.partition_key, "pruned_backbone"
    recipe, scoring = models.of(name)[key], scoring_of(models.recipes, key)
    parent, named = whole_version(models.recipes, key), named_versions(models.recipes, name, key)
    recorded = resolved_config(name, key, config, models)
    provenance = provenance_of(store, STEPS[name], key, recorded, named=named)
    whole = store.local_folder(*parent, require_gate=True)
    scores_folder = store.local_folder("unit_scores", scoring.name)
    cut = pruned_model.cut_model(recipe, scores_folder, whole, models.runs / "pruned" / key)
    drawing = Drawing(config.prompts_per_split, config.num_steps, config.guidance)
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    compared = compare_smaller(
        store, place, whole, cut.folder, drawing,
        recipe=key, parent_name=" ".join(parent), digest=folder_digest(cut.folder, OUTSIDE_MODEL_DIGEST),
    )  # fmt: skip
    table = smaller_markdown(compared.table)
    gates = pruned_model.gates_of_pruned(recipe, scoring, cut, compared.score)
    told_only = () if config.gate_score else ("score_within_margin",)
    gate = GateResult.all_of(found for check, found in gates.items() if check not in told_only)
    errors = pruned_model.errors_by_step(store, place, whole, cut.folder, (config.num_steps, config.guidance))
    card = pruned_model.pruned_card(recipe, scoring, cut, table, models.profile)
    manifest = publish_with_card(store, name, key, cut.folder, provenance, gate, card)
    compared.keep(store, (name, key), parent, provenance)
    store.write_table("pruning_step_errors", step_errors_table(key, errors), provenance, key)
    metadata = {
        "model": " ".join(parent),
        "method": scoring.method,
        "parameters": cut.parameters,
        "removed": dg.MetadataValue.md(pruned_model.units_markdown(cut)),
        "comparison": dg.MetadataValue.md(table),
        "samples": picture(compared.sheet, "whole above, pruned below, from the same noise"),
        "step_errors": picture(pruned_model.errors_picture(key, errors), "error by sampling step"),
        "units": picture(pruned_model.units_picture(cut), "scores and what was removed"),
    }
    return materialized(store, manifest, metadata, gate_checks(gates, told_only))


def pruning_comparison(
    context: dg.AssetExecutionContext,
    config: PruningComparisonConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """All pruned models side by side: how many parameters each method leaves, at which score, and what it took to know.

    Random and magnitude cost nothing; a method that costs more should be above them by more than the intervals.
    """
    from assets.pages.sheets import figure_jpeg
    from assets.pruning.comparison import (
        compare_pruned,
        comparison_markdown,
        comparison_picture,
        step_error_pictures,
    )

    step = STEPS["pruning_comparison"]
    provenance = provenance_of(store, step, None, config.model_dump())
    table = compare_pruned(store, models)
    manifest = store.write_table(step.name, table, provenance)
    metadata = {"comparison": dg.MetadataValue.md(comparison_markdown(table))}
    if table.num_rows:
        metadata["picture"] = picture(
            figure_jpeg(comparison_picture(table, config.margin)), "score over parameters by method"
        )
    for model, png in step_error_pictures(store, table).items():
        metadata[f"step_errors_{model.replace('-', '_').replace('.', '_')}"] = picture(figure_jpeg(png))
    return materialized(store, manifest, metadata, schema=PRUNING_COMPARISON)
