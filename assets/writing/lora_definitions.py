"""Assets of low-rank adapters on the layers that write."""

import dagster as dg

from assets.fine_tuning.definitions import check_can_be_tuned
from assets.graph.definitions import gate_check, materialized, picture
from assets.graph.interfaces import Compute, Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.models.children import prepare_child
from assets.models.training_runs import publish, run_metadata
from assets.writing.configs import LocalizedLoraComparisonConfig, LocalizedLoraConfig
from evaluation.tables.localization import LOCALIZED_LORA_COMPARISON


def localized_lora(
    context: dg.AssetExecutionContext,
    config: LocalizedLoraConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """Low-rank adapters on the layers that write alone, or, as rivals, on all attention or on all layers (arXiv 2502.09935).

    Its page holds the adapted model beside its parent: what OCR reads, the judge's score, fidelity and diversity beside real
    pictures, from the same noise.
    """
    from assets.models.backbones import gate_of_model, loss_curve, smaller_card
    from assets.writing.localized import (
        SCORES,
        SHEET_PICTURES,
        adapted_child,
        compare_adapted,
        lora_markdown,
    )
    from evaluation.plots.contact_sheets import contact_sheet, inline_jpeg

    key, name, perception = context.partition_key, "localized_lora", surroundings.perception
    prepared = prepare_child(store, models, name, key, config)
    check_can_be_tuned(prepared.recipe, prepared.parent_folder)
    adapted = adapted_child(store, models, prepared, config)
    run = adapted.child.train(models, compute, context.log.info)
    compared = compare_adapted(store, models, perception, adapted, run, config)
    table = lora_markdown(compared.table, LOCALIZED_LORA_COMPARISON.empty_table())
    gate = gate_of_model(run)
    manifest = publish(
        store, name, key, run, prepared.provenance, gate, smaller_card(run, models.profile, table)
    )
    store.write_table(SCORES, compared.table, prepared.provenance, key)
    shown = slice(SHEET_PICTURES)
    pictures = [*compared.parent.images[shown], *compared.child.images[shown]]
    words = [*compared.parent.read[shown], *compared.child.read[shown]]
    metadata = {
        **run_metadata(run),
        "parent": prepared.parent_name,
        "adapters_on": ", ".join(adapted.targets),
        "layers": ", ".join(adapted.layers) or "as the targets say",
        "trainable_parameters": compared.table["trainable_parameters"][0].as_py(),
        "comparison": dg.MetadataValue.md(table),
        "samples": picture(
            inline_jpeg(contact_sheet(pictures, words, columns=SHEET_PICTURES)),
            "parent above, adapted below, from the same noise, with what OCR read",
        ),
        "loss_curve": picture(loss_curve(run.folder), "training loss over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


def localized_lora_comparison(
    context: dg.AssetExecutionContext,
    config: LocalizedLoraComparisonConfig,
    store: dg.ResourceParam[Store],
) -> dg.MaterializeResult:
    """All adapters side by side against their trainable parameters, and every two on one parent held together, paired by prompt."""
    from assets.writing.localized import compare_loras, lora_markdown

    step = STEPS["localized_lora_comparison"]
    provenance = provenance_of(store, step, None, config.model_dump())
    scores, contrasts = compare_loras(store, config.metrics)
    manifest = store.write_table(step.name, contrasts, provenance)
    metadata = {"comparison": dg.MetadataValue.md(lora_markdown(scores, contrasts))}
    return materialized(store, manifest, metadata, schema=LOCALIZED_LORA_COMPARISON)
