"""Backbones that are trained from scratch, as a kind of model."""

from __future__ import annotations

from assets.backbones.configs import BackboneAnalysisConfig, GeneratedSamplesConfig
from assets.backbones.definitions import backbone, backbone_analysis, generated_samples
from assets.backbones.sizes import largest_first
from assets.graph.model_kinds import RELOADS, ModelAsset, ModelKind, ProfileFiles
from assets.models.configs import BackboneConfig
from assets.models.phases import BACKBONES
from assets.models.recipe_files import recipes_from_scratch
from training.recipes.specification import Recipe


def load_backbones(files: ProfileFiles) -> dict[str, Recipe]:
    """Recipes of ``recipes.yaml``; none without the file, as where a profile works on models that ship."""
    path = files.folder / "recipes.yaml"
    return recipes_from_scratch(path) if path.exists() else {}


BACKBONE = ModelKind(
    ModelAsset(backbone, BackboneConfig, (RELOADS,), in_pool=True),
    source="recipes.yaml",
    load=load_backbones,
    job="train_model",
    job_about="Train one backbone and let it draw the held-out prompts.",
    stage="backbones",
    phases=(BACKBONES,),
    trained=True,
    order=largest_first,
    companions=(
        ModelAsset(generated_samples, GeneratedSamplesConfig),
        ModelAsset(backbone_analysis, BackboneAnalysisConfig),
    ),
)
