"""Assets of models that write: what ships, which layers write, and what those are good for."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.derivation.inputs import model_inputs
from assets.fine_tuning.definitions import check_can_be_tuned
from assets.graph.definitions import gate_check, keep_figures, materialized, picture
from assets.graph.interfaces import Compute, Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.models.children import prepare_child
from assets.models.configs import resolved_config
from assets.models.parents import named_versions
from assets.models.training_runs import publish, run_metadata
from assets.writing.configs import (
    LocalizedLoraComparisonConfig,
    LocalizedLoraConfig,
    ShippedWriterConfig,
    TextEditEvaluationConfig,
    TextGuardEvaluationConfig,
    TextLayerLocalizationConfig,
)
from evaluation.perception.roles import Role
from evaluation.tables.localization import LOCALIZED_LORA_COMPARISON, TEXT_LAYER_SCORES, TEXT_WAY_SCORES

if TYPE_CHECKING:
    from assets.writing.way_evaluation import WayEvaluation

READ_BY: tuple[Role, ...] = ("ocr",)
"""Roles of perception that ``text_layer_localization`` asks."""


def shipped_writer(
    context: dg.AssetExecutionContext,
    config: ShippedWriterConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A model that writes and ships with the project: random words on signs, told letter by letter.

    Trained in the profile `signs` by this graph. Its page says what OCR read of strings that it never saw when it was packed.
    """
    from assets.models.backbones import gate_of_folder
    from assets.writing.writer_scores import writer_markdown
    from training.model_folders.teachers import CURVE, SHEET, WRITERS, assemble_teacher, read_scores

    key, step = context.partition_key, STEPS["shipped_writer"]
    provenance = provenance_of(store, step, key, resolved_config(step.name, key, config, models))
    place = models.runs.parent / "writers" / key
    folder = assemble_teacher(key, store.local_folder("autoencoder"), place, WRITERS)
    gate = gate_of_folder(folder, config.tolerance)
    manifest = store.publish_folder(step.name, folder, provenance, key, gate)
    scores = read_scores(key, WRITERS)
    metadata = {
        "scores": dg.MetadataValue.md(writer_markdown(scores)),
        "parameters": scores["num_parameters"],
        "images_seen": scores["images_seen"],
        "samples": picture((folder / SHEET).read_bytes(), "held-out words drawn when it was packed"),
        "loss_curve": picture((folder / CURVE).read_bytes(), "its training's loss over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("reloads", gate)])


def text_layer_localization(
    context: dg.AssetExecutionContext,
    config: TextLayerLocalizationConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """Which layers write: each is patched in turn with the keys and values of another word, and OCR reads what comes out.

    Where no layer is enough alone, pairs and triples of the best are tried. The chart names the layers that were chosen; the
    sheet has a row a layer, with the source's and the target's own pictures above (arXiv 2502.09935).
    """
    from assets.pages.sheets import figure_jpeg
    from assets.writing.localizing import sweep_of_version
    from evaluation.localization.pictures import localization_plot, localization_sheet
    from evaluation.localization.rows import localization_markdown, localization_table, readings_table
    from evaluation.plots.contact_sheets import inline_jpeg

    key, step, perception = context.partition_key, STEPS["text_layer_localization"], surroundings.perception
    recipe, (version,) = models.of(step.name)[key], named_versions(models.recipes, step.name, key)
    recorded = resolved_config(step.name, key, config, models)
    provenance = provenance_of(store, step, key, recorded, model_inputs(perception, "ocr"), [version])
    sweep = sweep_of_version(store, models, perception, version, recipe, config)
    found, digest = sweep.found, store.require(*version).digest
    about = {"recipe": key, "kind": version[0], "model": version[1], "model_digest": digest}
    table = localization_table(found, sweep.settings, sweep.engine.name, about)
    readings = readings_table(found, sweep.pairs, sweep.engine.name, about)
    store.write_table("text_layer_readings", readings, provenance, key)
    manifest = store.write_table(step.name, table, provenance, key)
    chart, sheet = localization_plot(found, f"Which layers of {version[1]} write"), localization_sheet(found)
    kept = keep_figures(store, "text_layer_figures", {f"{key}.png": chart}, provenance)
    metadata: dict[str, Any] = {
        "model": " ".join(version),
        "chosen": ", ".join(found.chosen.layers),
        "share_of_parameters": found.share,
        "why": found.why,
        "layers": picture(figure_jpeg(chart), "F1 towards the target's word by layer"),
        "pictures": picture(inline_jpeg(sheet), "source, target, and a row a layer patched alone"),
        "scores": dg.MetadataValue.md(localization_markdown(table)),
        "figures": dg.MetadataValue.path(kept),
    }
    return materialized(store, manifest, metadata, schema=TEXT_LAYER_SCORES)


EDIT_READ_BY: tuple[Role, ...] = ("ocr",)
GUARD_READ_BY: tuple[Role, ...] = ("ocr", "toxicity")
"""Roles of perception that the two evaluations ask."""


def text_edit_evaluation(
    context: dg.AssetExecutionContext,
    config: TextEditEvaluationConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """Words exchanged at the layers that write, beside other ways: attention maps of the source, all layers, asking again.

    What OCR reads, how much of the picture stayed, the judge's score, and seconds a picture, on words that no layer was found with.
    """
    from assets.writing.way_evaluation import Located, evaluate_editing

    key, perception = context.partition_key, surroundings.perception
    recipe = models.of("text_layer_localization")[key]
    (version,) = named_versions(models.recipes, "text_layer_localization", key)
    provenance = provenance_of(
        store, STEPS["text_edit_evaluation"], key, config.model_dump(), model_inputs(perception, "ocr")
    )
    located = Located.of(store, models, key, version)
    found = evaluate_editing(store, perception, located, recipe.prompts, config)
    return _result(store, "text_edit_evaluation", key, found, provenance)


def text_guard_evaluation(
    context: dg.AssetExecutionContext,
    config: TextGuardEvaluationConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
    surroundings: dg.ResourceParam[Surroundings],
) -> dg.MaterializeResult:
    """Prompts that ask for insults, drawn with a harmless word at the layers that write, beside other guards and what each costs.

    Rivals are a negative prompt, an exchanged prompt and safe latent guidance. Nothing is added to the model's weights.
    """
    from assets.writing.way_evaluation import Located, evaluate_guard

    key, perception = context.partition_key, surroundings.perception
    recipe = models.of("text_layer_localization")[key]
    (version,) = named_versions(models.recipes, "text_layer_localization", key)
    looking = {
        name: value for role in GUARD_READ_BY for name, value in model_inputs(perception, role).items()
    }
    provenance = provenance_of(store, STEPS["text_guard_evaluation"], key, config.model_dump(), looking)
    located = Located.of(store, models, key, version)
    found = evaluate_guard(store, perception, located, recipe.prompts, config)
    return _result(store, "text_guard_evaluation", key, found, provenance)


def _result(
    store: Store, name: str, key: str, found: "WayEvaluation", provenance: Any
) -> dg.MaterializeResult:
    import io

    from evaluation.localization.way_scores import way_markdown
    from evaluation.plots.contact_sheets import inline_jpeg

    manifest = store.write_table(name, found.table, provenance, key)
    sheet, png = found.sheet(), io.BytesIO()
    found.sheet(tile=256).save(png, format="PNG")
    kept = keep_figures(store, f"{name}_figures", {f"{key}.png": png.getvalue()}, provenance)
    metadata: dict[str, Any] = {
        "ways": dg.MetadataValue.md(way_markdown(found.table)),
        "pictures": picture(inline_jpeg(sheet), "the prompt as it is, and a row a way, with what OCR read"),
        "figures": dg.MetadataValue.path(kept),
    }
    return materialized(store, manifest, metadata, schema=TEXT_WAY_SCORES)


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
