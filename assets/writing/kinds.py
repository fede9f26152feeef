"""Models that write and ship, and sweeps over the layers of any model, as kinds of models."""

from __future__ import annotations

from assets.graph.model_kinds import RELOADS, ModelAsset, ModelCheck, ModelKind, ProfileFiles
from assets.models.phases import BACKBONES, STUDENTS
from assets.writing.configs import (
    LocalizedLoraComparisonConfig,
    LocalizedLoraConfig,
    ShippedWriterConfig,
    TextEditEvaluationConfig,
    TextGuardEvaluationConfig,
    TextLayerLocalizationConfig,
)
from assets.writing.definitions import (
    EDIT_READ_BY,
    GUARD_READ_BY,
    READ_BY,
    localized_lora,
    localized_lora_comparison,
    shipped_writer,
    text_edit_evaluation,
    text_guard_evaluation,
    text_layer_localization,
)
from assets.writing.lora_recipes import load_localized_loras, sweep_version
from assets.writing.shipped import load_shipped_writers
from training.recipes.text_layers import LocalizationRecipe, load_localizations


def load_sweeps(files: ProfileFiles) -> dict[str, LocalizationRecipe]:
    """Recipes of ``text_layers.yaml``; none without the file."""
    return files.read("text_layers.yaml", load_localizations) or {}


SHIPPED_WRITER = ModelKind(
    ModelAsset(
        shipped_writer,
        ShippedWriterConfig,
        (
            ModelCheck(
                "reloads",
                "The files are those that shipped, and answer a fixed input as they did when they were packed.",
            ),
        ),
    ),
    source="writers",
    load=load_shipped_writers,
    job="publish_writer",
    job_about="Publish a model that writes and ships with the project.",
    stage="writing",
    phases=(BACKBONES,),
    holds_images=False,
)
TEXT_LAYERS = ModelKind(
    ModelAsset(text_layer_localization, TextLayerLocalizationConfig, looks_by=READ_BY, in_pool=True),
    source="text_layers.yaml",
    load=load_sweeps,
    job="localize_text",
    job_about="Find the layers of one model that write, and edit and guard with them.",
    stage="writing",
    phases=(STUDENTS, "layers that write"),
    holds_models=False,
    companions=(
        ModelAsset(text_edit_evaluation, TextEditEvaluationConfig, looks_by=EDIT_READ_BY, in_pool=True),
        ModelAsset(text_guard_evaluation, TextGuardEvaluationConfig, looks_by=GUARD_READ_BY, in_pool=True),
    ),
)
LOCALIZED_LORA = ModelKind(
    ModelAsset(localized_lora, LocalizedLoraConfig, (RELOADS,), in_pool=True),
    source="localized_loras.yaml",
    load=load_localized_loras,
    job="train_localized_lora",
    job_about="Train adapters on the layers of one model that write, or on more, and hold the two side by side.",
    stage="writing",
    phases=("adapters on layers that write",),
    also_reads=sweep_version,
    trained=True,
    companions=(ModelAsset(localized_lora_comparison, LocalizedLoraComparisonConfig),),
)
