"""A profile: the sizes, settings and recipes under which the one graph runs. Data, not code."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, model_validator

from assets.distillation.kinds import profile_study
from assets.graph.model_kinds import ModelKind, ModelRecipes, ProfileFiles
from assets.graph.steps import STEPS
from assets.models.kinds import MODEL_KINDS
from assets.models.parents import model_behind
from orchestration.perception_profile import PerceptionProfile
from orchestration.workspace import PROFILES_FOLDER
from training.errors import FoundryError
from training.packaged_models import SHIPPED_RECIPES
from training.recipes.distillation_study import DistillationStudy
from training.recipes.execution import Execution
from training.recipes.files import load_recipes
from training.recipes.grid import Grid, load_grid
from training.recipes.specification import Recipe
from training.recipes.text_encoder import EncoderSettings
from training.recipes.validation import validate


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
    conditions_seconds: int = Field(
        30, ge=5, le=86400, description="seconds between looks at what follows its inputs by itself"
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
    recipes: InstanceOf[ModelRecipes] = Field(
        description="recipes of all kinds of models, from files and keys"
    )
    distillation_study: DistillationStudy | None = Field(
        None, description="factors of distillation to contrast, partitions of distilled_backbone too"
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

    def of(self, asset: str) -> Mapping[str, Any]:
        """Recipes of a kind of model by partition key; empty where the profile has none."""
        return self.recipes.of(asset)

    @property
    def grid_keys(self) -> list[str]:
        """Partition keys of the scaling grid."""
        return list(self.grid.points) if self.grid else []

    @property
    def group_keys(self) -> list[str]:
        """Partition keys of the data assets."""
        return [f"group-{index:02d}" for index in range(self.num_groups)]


@functools.cache
def load_profile(name: str, kinds: tuple[ModelKind, ...] = MODEL_KINDS) -> Profile:
    """Read ``profiles/<name>/`` with the recipes of ``kinds``. Raises FoundryError that names the file and the field."""
    folder = PROFILES_FOLDER / name
    if (folder / "plan.yaml").exists() and not (folder / "profile.yaml").exists():
        raise FoundryError(
            f"profile '{name}' has no data and can be planned only: `foundry plan {name}`. Set FOUNDRY_PROFILE to another."
        )
    path = folder / "profile.yaml"
    raw = _read_yaml(path)
    _check_keys(raw, kinds, path)
    world_path = _world_of(folder, raw.pop("world", name))
    _check_execution(raw.get("execution", {}), path)
    files = ProfileFiles(folder, raw)
    recipes = ModelRecipes(name, kinds, {kind.asset: kind.load(files) for kind in kinds})
    _check_names(recipes, path)
    settings = {key: value for key, value in raw.items() if key in SETTINGS}
    try:
        profile = Profile(
            **settings,
            name=name,
            recipes=recipes,
            distillation_study=profile_study(files),
            grid=load_grid(folder / "grid.yaml") if (folder / "grid.yaml").exists() else None,
            judge=load_recipes(folder / "judge.yaml")["judge-clip"],
            autoencoder=_autoencoder_recipe(folder),
            world_path=world_path,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FoundryError(
            f"{path}: field '{where}' is {first.get('input')!r}: {first['msg']}. Correct the file."
        ) from error
    _check_demo_models(profile, path)
    return profile


SET_BY_FILES = (
    "name",
    "recipes",
    "distillation_study",
    "grid",
    "judge",
    "autoencoder",
    "world_path",
)
"""Fields of :class:`Profile` that follow from the files beside ``profile.yaml``."""
SETTINGS = tuple(name for name in Profile.model_fields if name not in SET_BY_FILES)
"""Keys of ``profile.yaml`` but for the world's and those in which kinds of models are named."""


def _check_keys(raw: Mapping[str, Any], kinds: Sequence[ModelKind], path: Path) -> None:
    """Raise FoundryError for a key that ``profile.yaml`` does not have, with the nearest one it has."""
    known = [*SETTINGS, "world", *(kind.key for kind in kinds if kind.key is not None)]
    unknown = sorted(set(raw) - set(known))
    if unknown:
        near = get_close_matches(unknown[0], known, n=1)
        raise FoundryError(
            f"{path} has the unknown key '{unknown[0]}'."
            + (f" Did you mean '{near[0]}'?" if near else f" Known keys: {', '.join(known)}.")
        )


def _check_names(recipes: ModelRecipes, path: Path) -> None:
    """Raise FoundryError where two kinds of models have one of the same name: a parent is named by it alone."""
    seen: dict[str, str] = {}
    for kind in recipes.kinds:
        for name in recipes.of(kind.asset) if kind.holds_models else ():
            if name in seen:
                raise FoundryError(
                    f"{path.parent}: '{name}' names a model in {seen[name]} and in {kind.source}, so a 'parent' of that "
                    "name could be either; rename one"
                )
            seen[name] = kind.source


def _check_demo_models(profile: Profile, path: Path) -> None:
    """Raise FoundryError where the demo is to make a model that there is not, or one without what it is made from."""
    recipes = profile.recipes
    made_from = {
        name: model_behind(recipes, kind.asset, name)
        for kind in recipes.kinds
        if kind.holds_models and STEPS[kind.asset].parents
        for name in recipes.of(kind.asset)
    }
    looked_at = {name for kind in recipes.kinds if not kind.holds_models for name in recipes.of(kind.asset)}
    for name in profile.demo_models:
        if name in looked_at and name not in made_from:
            continue
        if name not in made_from:
            raise FoundryError(
                f"{path}: 'demo_models' names '{name}'; models made from others are {', '.join(made_from) or 'none yet'}"
            )
        parent = made_from[name]
        if parent in made_from and parent not in profile.demo_models:
            raise FoundryError(f"{path}: 'demo_models' names '{name}', but not its parent '{parent}'; add it")


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
