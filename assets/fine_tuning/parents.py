"""What a fine-tuned model is held beside."""

from __future__ import annotations

from assets.graph.model_kinds import ModelRecipes, Version
from assets.models.parents import parent_version
from assets.pruning.parents import whole_version


def reference_version(recipes: ModelRecipes, fine_tuned: str) -> Version:
    """A fine-tuned model's parent, or the whole model that its parent was pruned from: what it is held beside."""
    name = "fine_tuned_backbone"
    asset, parent = parent_version(recipes, name, recipes.of(name)[fine_tuned])
    return whole_version(recipes, parent) if asset == "pruned_backbone" else (asset, parent)
