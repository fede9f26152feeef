"""What the recipes of all profiles resolve to, as digests: the identity of every training, scoring and cut."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from assets.graph.definitions import settings
from assets.graph.steps import STEPS
from assets.models.configs import BackboneConfig, recipe_overrides
from assets.models.training_runs import resolve_recipe
from assets.scaling.points import Planned, planned
from orchestration.catalog import default_config
from orchestration.definitions import surroundings_of
from orchestration.profile import Profile, load_profile
from orchestration.workspace import PROFILES_FOLDER, Workspace
from training.digests import canonical_json, sha256_bytes
from training.recipes.files import load_recipes
from training.recipes.specification import Recipe, TrainingSpecification

PROFILES = ("smoke", "demo", "teacher", "gpu")
PLANNED_ONLY = "paper"
FILE = Path(__file__).with_name("spec_hashes.json")
DIGITS = 16
"""Of a sha256, as many as tell."""

STUDENTS = ("step_distilled_backbone", "distilled_backbone", "fine_tuned_backbone", "layout_model")
"""Assets whose models are trained from another model."""
DIGESTS = {
    "dataset": "0" * 64,
    "autoencoder": "1" * 64,
    "text_encoder": "2" * 64,
    "parent": "3" * 64,
    "layout": "4" * 64,
}
"""What every training reads here, in place of the contents of a workspace."""
INPUTS: Mapping[str, tuple[str, ...]] = {
    "autoencoder": ("dataset",),
    "judge_clip": ("dataset",),
    "backbone": ("dataset", "autoencoder", "text_encoder"),
    "scaling_run": ("dataset", "autoencoder", "text_encoder"),
    **dict.fromkeys(STUDENTS, ("dataset", "autoencoder", "text_encoder", "parent")),
    "layout_model": ("dataset", "autoencoder", "text_encoder", "parent", "layout"),
}
"""The inputs of a specification by asset, named as the graph names them."""

Digests = dict[str, str]


def digests_of_profile(name: str) -> dict[str, Digests]:
    """Digests by profile and kind, and by name of the recipe; a kind is the asset that is made by such recipes.

    Of what is trained they are spec hashes, of scorings and cuts those of their settings. ``grid_settings`` are the
    provenances of the grid's points, their scored counts among them; ``asset_settings`` is the run config of every asset
    as it runs when nobody changes it.
    """
    if name == PLANNED_ONLY:
        planned_only = load_recipes(PROFILES_FOLDER / name / "recipes.yaml")
        return {f"{name} backbone": _spec_hashes("backbone", planned_only)}
    profile = load_profile(name)
    grid = grid_of(profile)
    found = {kind: _spec_hashes(kind, recipes) for kind, recipes in trained(profile, grid).items()}
    found["grid_settings"] = {key: _digest(plan.settings) for key, plan in grid.items()}
    found["unit_scores"] = {
        key: _digest(recipe.settings()) for key, recipe in profile.of("unit_scores").items()
    }
    found["pruned_backbone"] = {
        key: _digest(recipe.settings()) for key, recipe in profile.of("pruned_backbone").items()
    }
    found["asset_settings"] = {asset: _digest(settings(default_config(profile, asset))) for asset in STEPS}
    return {f"{name} {kind}": digests for kind, digests in found.items() if digests}


def trained(profile: Profile, grid: Mapping[str, Planned]) -> dict[str, dict[str, Recipe]]:
    """The recipes that a profile trains by, as the graph resolves them, by asset and name."""
    models = surroundings_of(Workspace(Path("/nowhere"), profile.name, "scenes"), profile).models
    students = {name: models.of(name) for name in STUDENTS}
    return {
        "autoencoder": {models.autoencoder.name: models.autoencoder},
        "judge_clip": {models.judge.name: _resolved(profile, "judge_clip", models.judge)},
        "backbone": {key: _resolved(profile, "backbone", own) for key, own in models.of("backbone").items()},
        "scaling_run": {key: plan.recipe for key, plan in grid.items()},
        **{
            name: {key: _resolved(profile, name, own) for key, own in recipes.items()}
            for name, recipes in students.items()
        },
    }


def grid_of(profile: Profile) -> dict[str, Planned]:
    """The points of a profile's grid as they are trained."""
    models = surroundings_of(Workspace(Path("/nowhere"), profile.name, "scenes"), profile).models
    overrides = default_config(profile, "scaling_run").model_dump()
    return {key: planned(models, key, overrides) for key in profile.grid_keys}


def read() -> dict[str, Digests]:
    """The frozen digests."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def write() -> None:
    """Freeze what the code of today resolves to: a line for each kind of recipe of a profile."""
    found = [digests_of_profile(name) for name in (*PROFILES, PLANNED_ONLY)]
    lines = [f" {json.dumps(kind)}: {json.dumps(own)}" for digests in found for kind, own in digests.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _resolved(profile: Profile, name: str, own: Recipe) -> Recipe:
    """A recipe with the run config that the profile gives its asset."""
    config: dg.Config = default_config(profile, name)
    overrides = recipe_overrides(config) if isinstance(config, BackboneConfig) else config.model_dump()
    return resolve_recipe(own, overrides)


def _spec_hashes(kind: str, recipes: Mapping[str, Recipe]) -> Digests:
    inputs = {name: DIGESTS[name] for name in INPUTS[kind]}
    return {
        key: TrainingSpecification(recipe=recipe, inputs=inputs).spec_hash[:DIGITS]
        for key, recipe in recipes.items()
    }


def _digest(value: Any) -> str:
    return sha256_bytes(canonical_json(value).encode())[:DIGITS]
