"""Scores of units and pruned models, as kinds of models."""

from __future__ import annotations

from assets.graph.model_kinds import ModelAsset, ModelCheck, ModelKind, ProfileFiles
from assets.models.phases import BACKBONES, STUDENTS
from assets.pruning.configs import PrunedConfig, PruningComparisonConfig, UnitScoresConfig
from assets.pruning.definitions import pruned_backbone, pruning_comparison, unit_scores
from assets.pruning.parents import whole_version
from training.recipes.pruned_models import (
    PrunedRecipe,
    ScoringRecipe,
    load_ablation,
    load_pruned,
    load_scorings,
)


def load_all_scorings(files: ProfileFiles) -> dict[str, ScoringRecipe]:
    """Recipes of ``unit_scores.yaml``, and those of the ablation; none without the files."""
    return {**_scorings(files), **_ablation(files)[0]}


def load_all_pruned(files: ProfileFiles) -> dict[str, PrunedRecipe]:
    """Recipes of ``pruned.yaml``, and the models of the ablation; none without the files."""
    return {**load_pruned(files.folder / "pruned.yaml", _scorings(files)), **_ablation(files)[1]}


def _scorings(files: ProfileFiles) -> dict[str, ScoringRecipe]:
    return files.read("unit_scores.yaml", load_scorings) or {}


def _ablation(files: ProfileFiles) -> tuple[dict[str, ScoringRecipe], dict[str, PrunedRecipe]]:
    return files.read("pruning_ablation.yaml", lambda path: load_ablation(path, _scorings(files))) or ({}, {})


UNIT_SCORES = ModelKind(
    ModelAsset(unit_scores, UnitScoresConfig, in_pool=True),
    source="unit_scores.yaml",
    load=load_all_scorings,
    job="score_units",
    job_about="Score the heads and neurons of one model: learn masks end to end, or run a baseline.",
    stage="students",
    phases=(BACKBONES, "scores of units of other models"),
    holds_models=False,
    learned_from={"dataset": {"splits": ["train"]}},
)
PRUNED = ModelKind(
    ModelAsset(
        pruned_backbone,
        PrunedConfig,
        (
            ModelCheck(
                "reloads", "The published folder reloads to the same output as the model that was cut."
            ),
            ModelCheck(
                "parameters_as_planned",
                "The model has exactly the parameters that its plan of removal leaves.",
            ),
            ModelCheck(
                "no_weight_changed", "Every weight that survives is, byte by byte, the whole model's."
            ),
            ModelCheck(
                "score_within_margin",
                "Up to 20% of units removed by ecodiff: the judge's score is at most 10% below the whole model's, "
                "or the interval does not tell. Larger cuts and baselines report and pass; a warning with gate_score off.",
            ),
        ),
        in_pool=True,
    ),
    source="pruned.yaml",
    load=load_all_pruned,
    job="prune_model",
    job_about="Remove the units of one model that score lowest, and hold the two side by side.",
    stage="students",
    phases=(STUDENTS, "pruning other models"),
    names="scores",
    also_reads=whole_version,
    learned_from={"dataset": {"splits": []}},
    companions=(ModelAsset(pruning_comparison, PruningComparisonConfig),),
)
