"""What a pruned model was cut by and cut from."""

from __future__ import annotations

from assets.graph.model_kinds import ModelRecipes, Version
from assets.models.parents import parent_version
from training.recipes.pruned_models import PrunedRecipe, ScoringRecipe


def scoring_of(recipes: ModelRecipes, pruned: str) -> ScoringRecipe:
    """How the units of a pruned model's parent are scored."""
    recipe: PrunedRecipe = recipes.of("pruned_backbone")[pruned]
    scoring: ScoringRecipe = recipes.of("unit_scores")[recipe.scores]
    return scoring


def whole_version(recipes: ModelRecipes, pruned: str) -> Version:
    """Asset and partition of the model that a pruned one was cut from. Raises FoundryError where no recipe is it."""
    return parent_version(recipes, "unit_scores", scoring_of(recipes, pruned))
