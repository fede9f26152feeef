"""Assets of what the layers that write are good for: editing words in pictures, and keeping words out of them."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.derivation.inputs import model_inputs
from assets.graph.definitions import keep_figures, materialized, picture
from assets.graph.interfaces import Models, Store, Surroundings
from assets.graph.steps import STEPS, provenance_of
from assets.models.parents import named_versions
from assets.writing.configs import TextEditEvaluationConfig, TextGuardEvaluationConfig
from evaluation.perception.roles import Role
from evaluation.tables.localization import TEXT_WAY_SCORES

if TYPE_CHECKING:
    from assets.writing.way_evaluation import WayEvaluation

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
