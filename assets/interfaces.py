"""What assets need from the outside, as small protocols. Orchestration supplies the real things.

Assets receive these as ``dg.ResourceParam[...]`` and never learn which storage, cluster or model stands behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from training.digests import OUTSIDE_MODEL_DIGEST
from training.spec import Recipe


@dataclass(frozen=True)
class GateResult:
    """Outcome of the checks that stand between a dataset or model and its readers (DESIGN, decision 12)."""

    passed: bool
    findings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """What a version was made from; equal provenance means the work need not be done again.

    ``inputs`` maps ``name`` or ``name@partition`` to the content digest that was read.
    ``config`` holds every setting that changes the result and nothing else.
    ``function_version`` is the integer an author raises when results change.
    """

    asset: str
    function_version: int
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredFile:
    """One immutable file of a version: its place below the store's root, digest and size in bytes."""

    path: str
    sha256: str
    size_bytes: int
    num_rows: int | None = None


@dataclass(frozen=True)
class Manifest:
    """One version of a table or model folder. ``digest`` is over content alone, never over times or places."""

    name: str
    partition: str | None
    kind: str  # "table" or "folder"
    digest: str
    files: tuple[StoredFile, ...]
    num_rows: int | None
    provenance: Provenance
    gate: GateResult | None
    created_at: str


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
    """What one piece of work needs. ``threads`` is set inside the worker; Ray gives one by default."""

    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 1
    actors: int = 1
    batch_size: int = 32


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
        shards: Iterable[pa.Table],
        resources: Resources,
        log: Callable[[str], None],
    ) -> Iterator[pa.Table]:
        """Apply the worker to every row of every shard, in batches; order is not kept."""
        ...


@runtime_checkable
class Perception(Protocol):
    """The perception models of the profile: their identity, and a worker that runs them over images."""

    @property
    def model(self) -> str:
        """Name of the model (or set of models), as written into rows."""
        ...

    @property
    def digest(self) -> str:
        """sha256 over weights, concept bank and parameters: part of every row's key."""
        ...

    def worker(self) -> BatchWorker:
        """A worker from rows (sample_id, image) to rows of :data:`assets.schemas.REGIONS`."""
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
    """Recipes of the profile by partition key, and the folder in which runs live under their spec hash."""

    backbones: Mapping[str, Recipe]
    judge: Recipe
    autoencoder: Recipe
    runs: Path
    resources: Resources
    profile: str


@dataclass(frozen=True)
class Surroundings:
    """Everything that assets receive, for code that looks at the whole graph (staleness, lineage)."""

    store: Store
    compute: Compute
    perception: Perception
    landing: Landing
    models: Models
