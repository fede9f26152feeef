"""A kind of model as one row, and the recipes of a profile by kind.

What the graph has to know of a kind stands in its :class:`ModelKind`: how its recipes are read, what makes it, how it is
launched and what it keeps. Partitions, jobs, profile keys, the demo's phases, takedowns and provenance derive from it;
what it reads is in the step table, as for every asset. The rows are collected in :mod:`assets.models.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from evaluation.perception.roles import Role
from training.errors import FoundryError

Content = TypeVar("Content")
Version = tuple[str, str]
"""Asset and partition."""


@dataclass(frozen=True)
class ModelCheck:
    """A check that an asset reports of itself; a blocking one that fails keeps the model back from its readers."""

    name: str
    description: str
    blocking: bool = True


RELOADS = ModelCheck(
    "finite_and_reloads",
    "The loss stayed finite, and the published folder reloads to the same output as the model that was trained.",
)
"""What every trained backbone must pass."""


@dataclass(frozen=True)
class ModelAsset:
    """An asset of the group ``models``: its body, whose name it has, the class of its run config, and its checks.

    ``in_pool`` says that it takes a place of the pool that guards this machine. ``looks_by``: roles of perception that it asks,
    whose models are inputs then.
    """

    body: Callable[..., Any]
    config: type[Any]
    checks: tuple[ModelCheck, ...] = ()
    in_pool: bool = False
    looks_by: tuple[Role, ...] = ()

    @property
    def name(self) -> str:
        """Name of the asset and of its step."""
        return self.body.__name__


@dataclass(frozen=True)
class ProfileFiles:
    """What recipes are read from: the folder of a profile, and what its ``profile.yaml`` says."""

    folder: Path
    settings: Mapping[str, Any]
    _read: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def read(self, name: str, load: Callable[[Path], Content]) -> Content | None:
        """What ``load`` makes of a file of the folder, which is read once; None without the file."""
        path = self.folder / name
        if name not in self._read:
            self._read[name] = load(path) if path.exists() else None
        content: Content | None = self._read[name]
        return content


@dataclass(frozen=True)
class ModelKind:
    """One kind of model, a partition a recipe. The steps that are partitioned by ``asset`` run in one job.

    ``source``: where a profile names its models: a file, or a key of ``profile.yaml``. ``load`` reads them from there, by
    partition key; it raises FoundryError naming file, recipe and field.
    ``stage``: the stage of the demo's ledger that its time counts in. ``phases``: titles of the demo's phases that it may
    be made in; it is made in the first one that comes after all it names. Phases run in the order in which the rows of
    all kinds name them.
    ``names``: field of a recipe that names what it is made from, looked up in the parents of its step. ``also_reads`` is
    a further version that a partition reads by name.
    ``holds_models``: whether a partition is a model that others may start from; what is not one, such as the scores of
    its units, is made by the demo where a model asks for it.
    ``holds_images``: whether it keeps what an image taught it after the image has been taken down.
    ``trained``: whether the one loop trains it: its recipe is a :class:`training.recipes.specification.Recipe`, the
    Launchpad can override it, and the text encoder is an input. ``learned_from``: for others, what of the data they learn
    from, in the form of a recipe; by it takedowns are traced.
    ``order``: in which order partitions are launched. ``companions``: assets that come with it.
    """

    main: ModelAsset
    source: str
    load: Callable[[ProfileFiles], Mapping[str, Any]]
    job: str
    job_about: str
    stage: str
    phases: tuple[str, ...]
    names: str = "parent"
    also_reads: Callable[[ModelRecipes, str], Version] | None = None
    holds_models: bool = True
    holds_images: bool = True
    trained: bool = False
    learned_from: Mapping[str, Any] = field(default_factory=dict)
    order: Callable[[Mapping[str, Any]], Sequence[str]] = list
    companions: tuple[ModelAsset, ...] = ()

    @property
    def asset(self) -> str:
        """Name of the asset that the models are partitions of."""
        return self.main.name

    @property
    def key(self) -> str | None:
        """The key of ``profile.yaml`` that names its models; None where a file does."""
        return None if self.source.endswith(".yaml") else self.source


@dataclass(frozen=True)
class ModelRecipes:
    """The recipes of a profile: which kinds of models there are, in the order of making, and what each makes."""

    profile: str
    kinds: tuple[ModelKind, ...] = ()
    by_asset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, asset: str) -> Mapping[str, Any]:
        """The recipes of a kind by partition key; empty where the profile has none."""
        return self.by_asset.get(asset, {})

    def find(self, asset: str) -> ModelKind | None:
        """The kind whose models are partitions of ``asset``; None for an asset that holds no kind of model."""
        return next((kind for kind in self.kinds if kind.asset == asset), None)

    def kind(self, asset: str) -> ModelKind:
        """The kind whose models are partitions of ``asset``. Raises FoundryError where there is none."""
        found = self.find(asset)
        if found is None:
            known = ", ".join(kind.asset for kind in self.kinds)
            raise FoundryError(f"'{asset}' is no kind of model; the kinds are: {known or 'none'}")
        return found
