"""Assets of the backbones that are trained from scratch: the models, what they draw, and where their parameters lie."""

import dagster as dg

from assets.backbones.configs import BackboneAnalysisConfig, GeneratedSamplesConfig
from assets.graph.definitions import gate_check, materialized, picture
from assets.graph.interfaces import Compute, Models, Store
from assets.graph.steps import STEPS, provenance_of
from assets.models.configs import BackboneConfig
from assets.models.training_runs import publish, resolve_recipe, run_metadata, train_to_end
from evaluation.tables.analysis import BACKBONE_ANALYSIS
from evaluation.tables.samples import GENERATED_SAMPLES


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
    recipe = resolve_recipe(models.of("backbone")[key], config.model_dump())
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
    place = drawing_place(store, compute, drawing_resources(models.resources), context.log.info)
    samples = preview(place, store, run.folder.model)  # a model that cannot be drawn is not published
    manifest = publish(store, "backbone", key, run, provenance, gate, backbone_card(run, models.profile))
    metadata = {
        **run_metadata(run),
        "loss_curve": picture(loss_curve(run.folder), "training loss over images seen"),
        "samples": picture(samples, "for held-out prompts"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


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
    from assets.backbones.analysis import analyse_recipe, analysis_markdown, analysis_tables
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
