"""From a partition key to the recipe, the counts it is scored at, and the run folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assets.graph.interfaces import Models, Store
from assets.models.training_runs import resolve_recipe
from training.errors import FoundryError
from training.recipes.grid import Grid, GridPoint, check_pairs, recipe_of, scored_counts
from training.recipes.specification import Recipe, TrainingSpecification
from training.recipes.text_encoder import EncoderSettings
from training.run_folder import RunFolder


@dataclass(frozen=True)
class Planned:
    """A grid point as it is trained: its place on the axes, its recipe, and the counts it is scored at."""

    point: GridPoint
    recipe: Recipe
    counts: tuple[int, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What goes into the provenance of the run."""
        return {**self.recipe.settings(), "scored_counts": list(self.counts)}


def grid_of(models: Models) -> Grid:
    """The profile's grid. Raises FoundryError where it has none."""
    if models.grid is None:
        raise FoundryError(
            f"Profile '{models.profile}' has no scaling grid. Add grid.yaml beside its recipes.yaml."
        )
    return models.grid


def check_grid(models: Models) -> Grid:
    """The profile's grid, its pairs checked for equal parameters. Raises FoundryError naming both counts."""
    grid = grid_of(models)
    check_pairs(grid, parameters_of)
    return grid


def planned(models: Models, key: str, overrides: Mapping[str, Any] | None = None) -> Planned:
    """A partition of ``scaling_run``. Raises FoundryError for a key that the grid does not have."""
    grid = grid_of(models)
    point = grid.points.get(key)
    if point is None:
        raise FoundryError(
            f"The grid of profile '{models.profile}' has no point '{key}'; `foundry grid` lists them."
        )
    recipe = resolve_recipe(recipe_of(grid, point, macs_of), overrides or {})
    return Planned(point, recipe, scored_counts(grid, point, macs_of))


@functools.cache
def macs_of(backbone: str) -> int:
    """Multiply-adds of one image through a registered backbone; counted once a process."""
    from training.backbones import macs_per_image

    return macs_per_image(backbone)


@functools.cache
def parameters_of(backbone: str) -> int:
    """Parameters of a registered backbone; counted once a process."""
    from training.backbones import count_parameters

    return count_parameters(backbone)


def input_digests(store: Store, text_encoder: EncoderSettings) -> dict[str, str] | None:
    """Digests of what every run of the grid reads; None where the data are not there yet."""
    from training.recipes.text_encoder import encoder_digest

    found = {"dataset": store.current("training_shards"), "autoencoder": store.current("autoencoder")}
    digests = {name: manifest.digest for name, manifest in found.items() if manifest is not None}
    return {**digests, "text_encoder": encoder_digest(text_encoder)} if len(digests) == len(found) else None


def run_folder_of(models: Models, recipe: Recipe, digests: Mapping[str, str]) -> RunFolder:
    """Where the run of a recipe over these inputs lives, started or not."""
    spec = TrainingSpecification(recipe=recipe, inputs=dict(digests))
    return RunFolder(models.runs / spec.spec_hash)
