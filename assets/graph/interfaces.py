"""What assets need from the outside, as small protocols. Orchestration supplies the real things.

Assets receive these as ``dg.ResourceParam[...]`` and never learn which storage, cluster or model stands behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import pyarrow as pa

from assets.graph.model_kinds import ModelRecipes
from assets.graph.versions import GateResult, Manifest, Provenance
from evaluation.perception.roles import Role
from training.digests import OUTSIDE_MODEL_DIGEST
from training.recipes.distillation_study import DistillationStudy
from training.recipes.grid import Grid
from training.recipes.specification import Recipe
from training.recipes.text_encoder import EncoderSettings

if TYPE_CHECKING:
    import pyarrow.dataset as pads


@dataclass(frozen=True)
class WorkItem:
    """Rows that are worked on together, loaded where the work happens.

    ``load`` is picklable (a module-level function, or ``functools.partial`` of one) and may be called again.
    """

    num_rows: int
    load: Callable[[], pa.Table]


@runtime_checkable
class Pending(Protocol):
    """Results of an unfinished run, kept so that a killed one goes on where it was. Never read as a version."""

    def append(self, results: pa.Table) -> None:
        """Keep a batch of results durably before the call returns."""
        ...

    def read(self) -> list[pa.Table]:
        """Everything kept so far; what was damaged is left out."""
        ...

    def clear(self) -> None:
        """Forget everything: the version that holds it has been written."""
        ...


@runtime_checkable
class Store(Protocol):
    """Versioned tables and folders by content digest. Reading verifies; writing swaps atomically."""

    def current(self, name: str, partition: str | None = None) -> Manifest | None:
        """Newest version, or None when there is none."""
        ...

    def partitions(self, name: str) -> list[str]:
        """Partition keys of ``name`` that have a version, sorted."""
        ...

    def names(self) -> list[str]:
        """Names of everything stored, sorted."""
        ...

    def versions(self, name: str, partition: str | None = None) -> list[Manifest]:
        """Every version there ever was, oldest first."""
        ...

    def require(self, name: str, partition: str | None = None, *, require_gate: bool = False) -> Manifest:
        """Newest version; raises StoreError when it is missing or when its gate failed or never ran."""
        ...

    def read_table(
        self,
        name: str,
        partition: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        require_gate: bool = False,
    ) -> pa.Table:
        """Rows of the newest version, bytes verified. Raises StoreError when missing, damaged or gated."""
        ...

    def read_all(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of all partitions (or of the unpartitioned table), in order of partition key."""
        ...

    def write_table(
        self,
        name: str,
        table: pa.Table,
        provenance: Provenance,
        partition: str | None = None,
        gate: GateResult | None = None,
    ) -> Manifest:
        """Store rows as a new version and make it the newest; equal content keeps its digest."""
        ...

    def read_version(self, manifest: Manifest, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of any version, bytes verified. Raises StoreError when they are damaged or were collected."""
        ...

    def write_batches(
        self,
        name: str,
        batches: Iterable[pa.Table],
        provenance: Provenance,
        partition: str | None = None,
        gate: GateResult | None = None,
    ) -> Manifest:
        """As :meth:`write_table`, for rows that arrive in pieces: several files, memory bounded by one of them.

        Where files are cut depends on the rows alone, not on the pieces they arrived in.
        """
        ...

    def work_items(
        self,
        name: str,
        partition: str | None,
        key: str,
        wanted: Sequence[str],
        columns: Sequence[str],
        rows_per_item: int,
    ) -> list[WorkItem]:
        """Rows of the newest version whose ``key`` is wanted, as work to be loaded where it is done.

        Here only the column ``key`` is read; a worker that sees the store reads the rest.
        """
        ...

    def pending(self, name: str, partition: str | None = None) -> Pending:
        """Results of an unfinished run of ``name``."""
        ...

    def takedowns(self) -> frozenset[str]:
        """Image ids that must not be in any new version (`foundry remove`)."""
        ...

    def accepted_versions(self, name: str) -> frozenset[int]:
        """Function versions whose rows a person declared equivalent to today's (`foundry accept-version`)."""
        ...

    def marked_images(self, manifest: Manifest) -> frozenset[str]:
        """Removed images that a version was marked to have been made from, while they stay removed."""
        ...

    def scan(self, manifest: Manifest, *, verify: bool = True) -> pads.Dataset:
        """A table version as a lazy Arrow dataset, for queries that read a few columns or rows of a large table.

        ``verify=False`` leaves the bytes unchecked, for looking only. Raises as :meth:`read_version` does.
        """
        ...

    def iterate_version(self, manifest: Manifest, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Rows of any version in pieces of bounded size, in order; for tables that do not fit in memory."""
        ...

    def local_version(self, manifest: Manifest) -> Path:
        """A local, verified copy of any folder version. Raises StoreError when it is damaged or was collected."""
        ...

    def collected(self, manifest: Manifest) -> dict[str, Any] | None:
        """``when`` and ``because`` a version's bytes were removed (`foundry gc`); None where they were not."""
        ...

    def publish_folder(
        self,
        name: str,
        folder: Path,
        provenance: Provenance,
        partition: str | None = None,
        gate: GateResult | None = None,
        *,
        outside_digest: Sequence[str] = OUTSIDE_MODEL_DIGEST,
    ) -> Manifest:
        """Store a folder as a new version; files named in ``outside_digest`` travel but do not count."""
        ...

    def local_folder(self, name: str, partition: str | None = None, *, require_gate: bool = False) -> Path:
        """A local, verified copy of the newest folder version (the folder itself on a local store)."""
        ...

    def address(self, manifest: Manifest) -> str:
        """URL under which a person finds the version."""
        ...


@dataclass(frozen=True)
class Resources:
    """What one piece of work needs. ``threads`` is set inside the worker; Ray gives one by default.

    ``inline_rows``: batch work of at most so many rows, without a GPU, runs in the calling process, where starting
    workers would take longer than the work; None leaves it to the compute resource.
    ``workers`` train one run together, each with these CPUs and GPUs, by the ``strategy`` of
    :class:`training.recipes.execution.Execution`.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1
    actors: int = 1
    batch_size: int = 32
    inline_rows: int | None = None
    keep_loaded: bool = False
    workers: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"


BatchFunction = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class BatchWorker:
    """How to build a batch function inside a worker: ``factory(**kwargs)`` returns a BatchFunction.

    ``factory`` is a module-level class or function, so that it pickles by name.
    """

    factory: Callable[..., BatchFunction]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Compute(Protocol):
    """Where work runs: in this process, on Ray here, or on a Ray cluster."""

    def train(self, run_folder: Path, resources: Resources, log: Callable[[str], None]) -> None:
        """Run ``training.run.run(run_folder)`` to the end and relay its progress to ``log`` at a bounded rate.

        Raises TrainingStopped when stopped from outside and TrainingFailed with the run's own error.
        """
        ...

    def map_shards(
        self,
        worker: BatchWorker,
        items: Sequence[WorkItem],
        resources: Resources,
        log: Callable[[str], None],
    ) -> Iterator[pa.Table]:
        """Apply the worker to every row of every item, in batches; order is not kept.

        Every row reaches the caller exactly once, also where a worker process dies on the way. Items are loaded as
        workers become free, so that memory stays bounded. ``log`` hears rows per second and the time left.
        """
        ...


@runtime_checkable
class PerceptionModel(Protocol):
    """One model in one role of :data:`evaluation.perception.roles.ROLES`. Cheap to ask for its identity; loads nothing before a worker is built."""

    @property
    def name(self) -> str:
        """Name of the model, as written into rows."""
        ...

    @property
    def digest(self) -> str:
        """sha256 over weights and every setting that changes the answer (prompts, decoding, seed)."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Of ``image`` and ``regions`` those that the worker needs in its input rows."""
        ...

    @property
    def resources(self) -> Resources:
        """What one worker needs, how many workers there may be, and the rows of one batch."""
        ...

    def worker(self) -> BatchWorker:
        """How to build the batch function in a worker; loads the model there, once."""
        ...


@dataclass(frozen=True)
class Model:
    """A :class:`PerceptionModel` put together from its parts; ``make`` says how to build a worker."""

    name: str
    digest: str
    make: Callable[[], BatchWorker]
    reads: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)

    def worker(self) -> BatchWorker:
        """See :class:`PerceptionModel`."""
        return self.make()


@runtime_checkable
class Perception(Protocol):
    """The perception models of the profile, by role."""

    def model(self, role: Role) -> PerceptionModel | None:
        """The model of a role; None where the profile leaves the role empty. For detectors the first one."""
        ...

    def detectors(self) -> Mapping[str, PerceptionModel]:
        """All detectors by the profile's names. The first one annotates; the others are compared with it."""
        ...


@dataclass(frozen=True)
class Landing:
    """Where samples arrive, and into how many shard groups they are dealt.

    ``is_composed`` says that the source is the platform's own scene builder, for which a truth table exists.
    """

    source: str
    folder: Path
    group_keys: tuple[str, ...]
    world_path: Path
    is_composed: bool


@dataclass(frozen=True)
class Models:
    """Recipes of the profile, and the folder in which runs live under their spec hash.

    ``execution`` holds fields of :class:`training.recipes.execution.Execution` that the profile sets for all trainings.
    """

    recipes: ModelRecipes
    judge: Recipe
    autoencoder: Recipe
    runs: Path
    resources: Resources
    text_encoder: EncoderSettings = field(default_factory=EncoderSettings)
    distillation_study: DistillationStudy | None = None
    execution: Mapping[str, Any] = field(default_factory=dict)
    grid: Grid | None = None

    @property
    def profile(self) -> str:
        """Name of the profile."""
        return self.recipes.profile

    def of(self, asset: str) -> Mapping[str, Any]:
        """Recipes of a kind of model by partition key; empty where the profile has none."""
        return self.recipes.of(asset)


@dataclass(frozen=True)
class Surroundings:
    """Everything that assets receive, for code that looks at the whole graph (staleness, lineage)."""

    store: Store
    compute: Compute
    perception: Perception
    landing: Landing
    models: Models
