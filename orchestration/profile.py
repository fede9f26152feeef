"""A profile: the sizes, settings and recipes under which the one graph runs. Data, not code."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from assets.models.parents import check_no_parents
from orchestration.perception_profile import PerceptionProfile
from orchestration.workspace import PROFILES_FOLDER
from training.errors import FoundryError
from training.packaged_models import SHIPPED_RECIPES, teacher_digests
from training.recipes.distillation_study import DistillationStudy, load_study, study_recipes
from training.recipes.execution import Execution
from training.recipes.files import load_recipes
from training.recipes.grid import Grid, load_grid
from training.recipes.pruned_models import (
    PrunedRecipe,
    ScoringRecipe,
    load_ablation,
    load_pruned,
    load_scorings,
)
from training.recipes.specification import Recipe
from training.recipes.text_encoder import EncoderSettings
from training.validation import validate


class ComputeProfile(BaseModel):
    """Where work runs and how much of the machine it may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: str = Field("ray", pattern="^(inline|ray)$", description="inline (this process) or ray")
    address: str | None = Field(
        None, description="address of an existing Ray cluster; empty: a Ray of our own"
    )
    cpus: int = Field(2, ge=1, le=4096, description="logical CPUs that our own Ray offers")
    concurrent_runs: int = Field(2, ge=1, le=64, description="runs that `foundry demo` has in flight at once")
    threads_per_worker: int = Field(1, ge=1, le=256, description="torch threads of each worker")
    inline_rows: int = Field(
        256,
        ge=0,
        description="batch work of at most so many rows runs in the step itself, where no actor must start",
    )
    gpus_per_training: float = Field(0.0, ge=0, le=64, description="GPUs that one training asks for")
    workers_per_training: int = Field(
        1, ge=1, le=4096, description="Ray workers that train one run together, with those GPUs each"
    )
    training_strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="workers hold a copy of the weights each (ddp) or a shard (fsdp)"
    )
    pool: str = Field("cpu", description="Dagster pool that guards this machine's cores (or 'gpu')")

    @model_validator(mode="after")
    def _workers_have_room(self) -> ComputeProfile:
        if self.workers_per_training > 1 and self.mode == "inline":
            raise ValueError(
                f"'workers_per_training' is {self.workers_per_training}, but mode inline has one process; say mode ray"
            )
        if self.address is None and self.workers_per_training > self.cpus:
            raise ValueError(
                f"'workers_per_training' is {self.workers_per_training}, above the {self.cpus} 'cpus' that our own Ray "
                "offers; raise cpus or give the address of a cluster"
            )
        return self


class AutomationProfile(BaseModel):
    """When things run by themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refresh_cron: str = Field("0 3 * * 1", description="cron of the data refresh (default: Mondays at three)")
    landing_seconds: int = Field(
        30, ge=5, le=86400, description="seconds between looks into the landing folder"
    )
    staleness_seconds: int = Field(
        60, ge=5, le=86400, description="seconds between comparisons with the code's versions"
    )


class Profile(BaseModel):
    """One profile file plus the recipes beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str = Field(description="one sentence that every report prints beside its figures")
    num_groups: int = Field(
        4, ge=1, le=64, description="shard groups, which are the partitions of the data assets"
    )
    compute: ComputeProfile = Field(default_factory=ComputeProfile)
    perception: PerceptionProfile = Field(default_factory=PerceptionProfile)
    automation: AutomationProfile = Field(default_factory=AutomationProfile)
    assets: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict,
        description="run-config defaults by asset, which the Launchpad shows and can override",
    )
    text_encoder: EncoderSettings = Field(
        default_factory=EncoderSettings, description="encodes captions for all backbones; MiniLM if left out"
    )
    execution: Mapping[str, Any] = Field(
        default_factory=dict,
        description="how trainings run here, outside their identity: fields of training.recipes.execution.Execution",
    )
    backbones: Mapping[str, Recipe] = Field(default_factory=dict, description="recipes, one partition each")
    teachers: tuple[str, ...] = Field(
        (),
        description="trained backbones that ship with the project and that others start from; for the demo's world",
    )
    step_distilled: Mapping[str, Recipe] = Field(
        default_factory=dict, description="recipes of few-step students, one partition each"
    )
    distilled: Mapping[str, Recipe] = Field(
        default_factory=dict, description="recipes of smaller students, one partition each"
    )
    distillation_study: DistillationStudy | None = Field(
        None, description="factors of distillation to contrast, partitions of distilled_backbone too"
    )
    unit_scores: Mapping[str, ScoringRecipe] = Field(
        default_factory=dict, description="recipes of how a model's units are scored, one partition each"
    )
    pruned: Mapping[str, PrunedRecipe] = Field(
        default_factory=dict, description="recipes of pruned models, one partition each"
    )
    fine_tuned: Mapping[str, Recipe] = Field(
        default_factory=dict, description="recipes of models trained on from a parent, one partition each"
    )
    demo_models: tuple[str, ...] = Field(
        (),
        description="models made from others that `foundry demo` makes; the rest are made by `foundry demo --all`",
    )
    grid: Grid | None = Field(
        None, description="the scaling grid, one partition a point; none without grid.yaml"
    )
    judge: Recipe
    autoencoder: Recipe
    world_path: Path

    @field_validator("teachers")
    @classmethod
    def _teachers_ship(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        shipped = teacher_digests()
        for name in names:
            if name not in shipped:
                raise ValueError(f"no teacher of that name ships; the names are: {', '.join(shipped)}")
        return names

    @model_validator(mode="after")
    def _names_tell_models_apart(self) -> Profile:
        files = {
            "recipes.yaml": self.backbones,
            "teachers": self.teachers,
            "step_distilled.yaml": self.step_distilled,
            "distilled.yaml": self.distilled,
            "pruned.yaml": self.pruned,
            "fine_tuned.yaml": self.fine_tuned,
        }
        seen: dict[str, str] = {}
        for file, names in files.items():
            for name in names:
                if name in seen:
                    raise ValueError(
                        f"'{name}' names a model in {seen[name]} and in {file}, so a 'parent' of that name could be "
                        "either; rename one"
                    )
                seen[name] = file
        return self

    @model_validator(mode="after")
    def _demo_can_make_its_models(self) -> Profile:
        parents = {
            name: recipe.parent
            for recipes in (self.step_distilled, self.distilled, self.fine_tuned)
            for name, recipe in recipes.items()
        }
        parents |= {name: self.unit_scores[recipe.scores].parent for name, recipe in self.pruned.items()}
        for name in self.demo_models:
            if name not in parents:
                raise ValueError(
                    f"'demo_models' names '{name}'; models made from others are {', '.join(parents) or 'none yet'}"
                )
            parent = parents[name]
            if parent in parents and parent not in self.demo_models:
                raise ValueError(f"'demo_models' names '{name}', but not its parent '{parent}'; add it")
        return self

    @property
    def grid_keys(self) -> list[str]:
        """Partition keys of the scaling grid."""
        return list(self.grid.points) if self.grid else []

    @property
    def group_keys(self) -> list[str]:
        """Partition keys of the data assets."""
        return [f"group-{index:02d}" for index in range(self.num_groups)]


@functools.cache
def load_profile(name: str) -> Profile:
    """Read ``profiles/<name>/``. Raises FoundryError that names the file and the field."""
    folder = PROFILES_FOLDER / name
    if (folder / "plan.yaml").exists() and not (folder / "profile.yaml").exists():
        raise FoundryError(
            f"profile '{name}' has no data and can be planned only: `foundry plan {name}`. Set FOUNDRY_PROFILE to another."
        )
    raw = _read_yaml(folder / "profile.yaml")
    unknown = sorted(set(raw) - {*Profile.model_fields, "world"})
    if unknown:
        near = get_close_matches(unknown[0], Profile.model_fields, n=1)
        raise FoundryError(
            f"{folder / 'profile.yaml'} has the unknown key '{unknown[0]}'."
            + (f" Did you mean '{near[0]}'?" if near else f" Known keys: {', '.join(Profile.model_fields)}.")
        )
    world_path = _world_of(folder, raw.pop("world", name))
    study_path = folder / "distillation_study.yaml"
    study = load_study(study_path) if study_path.exists() else None
    _check_execution(raw.get("execution", {}), folder / "profile.yaml")
    scorings = load_scorings(folder / "unit_scores.yaml")
    varied, pruned_variants = load_ablation(folder / "pruning_ablation.yaml", scorings)
    try:
        return Profile(
            **raw,
            name=name,
            backbones=_backbones(folder / "recipes.yaml"),
            step_distilled=_students(folder / "step_distilled.yaml", "step_distillation"),
            distilled={
                **_students(folder / "distilled.yaml", "feature_distillation"),
                **(study_recipes(study) if study else {}),
            },
            distillation_study=study,
            unit_scores={**scorings, **varied},
            fine_tuned=_fine_tuned(folder / "fine_tuned.yaml"),
            pruned={**load_pruned(folder / "pruned.yaml", scorings), **pruned_variants},
            grid=load_grid(folder / "grid.yaml") if (folder / "grid.yaml").exists() else None,
            judge=load_recipes(folder / "judge.yaml")["judge-clip"],
            autoencoder=_autoencoder_recipe(folder),
            world_path=world_path,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FoundryError(
            f"{folder / 'profile.yaml'}: field '{where}' is {first.get('input')!r}: {first['msg']}. Correct the file."
        ) from error


def _world_of(folder: Path, name: object) -> Path:
    """The world that a profile's scenes show: its own, or that of the profile it names."""
    path = PROFILES_FOLDER / str(name) / "world.yaml"
    if not path.exists():
        known = sorted(found.parent.name for found in PROFILES_FOLDER.glob("*/world.yaml"))
        raise FoundryError(
            f"{folder / 'profile.yaml'}: field 'world' is {name!r}, of which there is no world.yaml; allowed are "
            f"{', '.join(known)}. Correct the file."
        )
    return path


SET_BY_THE_GRAPH = ("threads", "world_size", "strategy", "input_paths", "snapshot_images", "text_encoder")
"""Fields of ``Execution`` that follow from elsewhere: the profile's compute and text encoder, the store, the grid."""


def _check_execution(values: object, path: Path) -> None:
    """Raise FoundryError for a setting that there is not, an impossible value, or one that the graph sets itself."""
    if not isinstance(values, dict):
        raise FoundryError(f"{path}: 'execution' must map settings to values, found {type(values).__name__}")
    validate(Execution, values, f"{path}: execution")
    taken = [name for name in SET_BY_THE_GRAPH if name in values]
    if taken:
        raise FoundryError(
            f"{path}: execution sets '{taken[0]}', which follows from compute, text_encoder, store or grid; leave it out"
        )


def _backbones(path: Path) -> dict[str, Recipe]:
    recipes = load_recipes(path)
    check_no_parents(recipes, str(path))
    return recipes


def _students(path: Path, objective: str) -> dict[str, Recipe]:
    """Recipes of the students of one kind; a profile without the file has none."""
    recipes = load_recipes(path) if path.exists() else {}
    for name, recipe in recipes.items():
        if recipe.objective != objective:
            raise FoundryError(
                f"{path}, recipe '{name}': 'objective' is '{recipe.objective}'; say '{objective}', "
                "or move the recipe to the file of its kind"
            )
    return recipes


def _fine_tuned(path: Path) -> dict[str, Recipe]:
    recipes = _students(path, "diffusion")
    for name, recipe in recipes.items():
        if recipe.parent is None:
            raise FoundryError(
                f"{path}, recipe '{name}': 'parent' is missing; name the model that is trained on, or move the recipe to "
                "recipes.yaml"
            )
    return recipes


def _autoencoder_recipe(folder: Path) -> Recipe:
    """The profile's own recipe, or the one that the shipped autoencoder was trained by."""
    own = folder / "autoencoder.yaml"
    return next(iter(load_recipes(own if own.exists() else SHIPPED_RECIPES).values()))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise FoundryError(
            f"{path} is missing. Every profile folder needs one; copy the demo profile's."
        ) from error
    except yaml.YAMLError as error:
        raise FoundryError(f"{path} is not YAML: {error}. Correct the file.") from error
    if not isinstance(content, dict):
        raise FoundryError(f"{path} must hold a mapping, found {type(content).__name__}. Correct the file.")
    return content
