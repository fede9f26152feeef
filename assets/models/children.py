"""One way to train a model that starts from another: its recipe, what it reads, and the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assets.graph.interfaces import Compute, Models, Store
from assets.graph.steps import STEPS, provenance_of
from assets.graph.versions import Provenance
from assets.models.configs import BackboneConfig, recipe_overrides, trained_settings
from assets.models.parents import Sources, child_sources, named_versions, parent_version
from assets.models.training_runs import Log, TrainedRun, resolve_recipe, train_to_end
from training.recipes.specification import Recipe


@dataclass(frozen=True)
class Child:
    """A model about to be trained from its parent. ``outside`` are digests of what does not come out of the graph."""

    recipe: Recipe
    parent: tuple[str, str]  # asset and partition
    provenance: Provenance
    sources: Sources
    outside: Mapping[str, str]

    @property
    def parent_name(self) -> str:
        """For people."""
        return " ".join(self.parent)

    @property
    def parent_folder(self) -> Path:
        """The parent's verified pipeline folder."""
        return self.sources.paths["parent"]

    def train(
        self, models: Models, compute: Compute, log: Log, snapshot_images: tuple[int, ...] = ()
    ) -> TrainedRun:
        """Train to the end, and keep the model after each of ``snapshot_images``.

        Raises as :func:`assets.models.training_runs.train_to_end` does.
        """
        digests = {**self.sources.digests, **self.outside}
        return train_to_end(self.recipe, digests, self.sources.paths, models, compute, log, snapshot_images)


def prepare_child(store: Store, models: Models, name: str, key: str, config: BackboneConfig) -> Child:
    """The child of partition ``key`` of asset ``name``.

    Raises FoundryError when its recipe names no parent that there is, an input is missing, or a gate failed.
    """
    from training.recipes.text_encoder import encoder_digest

    own = models.of(name)[key]
    recipe = resolve_recipe(own, recipe_overrides(config))
    parent = parent_version(models.recipes, name, recipe)
    named = named_versions(models.recipes, name, key)
    outside = {"text_encoder": encoder_digest(models.text_encoder)}
    provenance = provenance_of(store, STEPS[name], key, trained_settings(own, config), outside, named)
    return Child(recipe, parent, provenance, child_sources(store, provenance, parent), outside)
