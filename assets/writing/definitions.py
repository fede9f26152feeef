"""Assets of models that write."""

from typing import Any

import dagster as dg

from assets.derivation.inputs import model_inputs
from assets.graph.definitions import gate_check, keep_figures, materialized, picture
from assets.graph.interfaces import Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.models.configs import resolved_config
from assets.writing.configs import ShippedWriterConfig, TextLayerLocalizationConfig
from evaluation.perception.roles import Role
from evaluation.tables.localization import TEXT_LAYER_SCORES

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
    from assets.models.parents import named_versions
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
