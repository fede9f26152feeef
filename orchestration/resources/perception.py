"""The perception resource: which models fill which roles, and how a worker builds them."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from assets.graph.interfaces import BatchFunction, BatchWorker, Model, PerceptionModel, Resources, Role
from orchestration.perception_profile import PerceptionProfile
from training.errors import FoundryError
from training.validation import validate

EMBEDDED, NANODET = "embedded", "nanodet"


class EmbeddedSettings(BaseModel):
    """What a profile may set of an embedded model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    art: Literal["twemoji", "fluent"] = Field(
        "twemoji", description="art set of the concept bank; fluent comes with `foundry demo-data`"
    )
    k: int = Field(2, ge=1, le=5, description="captions per image")
    seed: int = Field(0, ge=0, description="seed of the order in which captions tell things")
    min_similarity: float = Field(
        0.55, ge=0, le=1, description="detector: cosine below which two names mean different things"
    )
    min_grounding: float = Field(
        0.1, ge=0, le=1, description="detector: image-text score below which a phrase grounds no region"
    )
    min_mask_iou: float = Field(
        0.7,
        ge=0,
        le=1,
        description="masks: overlap of a region's box with the entity's from which it is its mask",
    )


class NanoDetSettings(BaseModel):
    """What a profile may set of the packaged detector, whose files come with `foundry demo-data`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_score: float = Field(0.25, ge=0, le=1, description="boxes below this score are left out")
    max_overlap_iou: float = Field(
        0.5, ge=0, le=1, description="of two boxes overlapping more, the weaker is left out"
    )


LIGHT_ROWS = 50_000
"""Rows up to which the light embedded roles (well under a millisecond a row) work in the step itself."""
TEXT_ROWS = 10_000
"""The same for spaCy, at one to two milliseconds a caption."""


class EmbeddedRegions:
    """What the embedded roles look through: Lite0 features against a bank of training concepts, ConSE, OCR.

    The bank holds the training concepts' own pictures, or another art set's pictures of the same concepts where
    ``art`` says so; held-out concepts are never in it. It is built once and kept in ``cache``.
    """

    reads = ("image",)

    def __init__(
        self,
        world_path: Path,
        cache: Path,
        threads: int,
        art: str,
        *,
        closed_set: bool = False,
        workers_see_cache: bool = True,
    ) -> None:
        self._world_path = world_path
        self._cache = cache
        self._threads = threads
        self._art = art
        self._closed_set = closed_set
        self._workers_see_cache = workers_see_cache

    @property
    def name(self) -> str:
        """Name written into rows; it says where the bank's pictures are from."""
        from evaluation.perception.embedded.identity import model_name

        return model_name(self._art, closed_set=self._closed_set)

    @cached_property
    def digest(self) -> str:
        """sha256 over weights, the bank's pictures and words, and parameters; computed without loading a model."""
        from evaluation.perception.embedded.identity import perception_digest

        return perception_digest(*self._bank_inputs, closed_set=self._closed_set)

    @property
    def resources(self) -> Resources:
        """One worker on this machine's processors."""
        return Resources(threads=self._threads, keep_loaded=True)

    def worker(self) -> BatchWorker:
        """On this machine workers read the bank from the cache; to other machines its 5 MB travel along."""
        from evaluation.perception.embedded.perceiver import build_embedded_perceiver

        path = self._bank()
        settings = {"threads": self._threads, "art": self._art, "closed_set": self._closed_set}
        if self._workers_see_cache:
            return BatchWorker(build_perceiver_from_file, {"bank": str(path), **settings})
        return BatchWorker(build_embedded_perceiver, {"bank": path.read_bytes(), **settings})

    @cached_property
    def _bank_inputs(self) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """Pictures of training concepts by name, and the words that may be answered where the bank knows nothing."""
        from assets.corpus.art import bank_pictures, drawings
        from assets.corpus.scenes import load_world

        concepts = load_world(self._world_path).concepts
        return bank_pictures(concepts, art=self._art), tuple(sorted(drawings()))

    def _bank(self) -> Path:
        """File of the fitted bank, made unless these very inputs were fitted before."""
        from evaluation.perception.embedded.bank import build_bank
        from evaluation.perception.embedded.identity import bank_inputs_digest
        from training.run_folder import write_bytes_atomic

        path = self._cache / f"concept-bank-{bank_inputs_digest(*self._bank_inputs)[:16]}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs that start together build it once
            if not path.exists():
                write_bytes_atomic(path, build_bank(*self._bank_inputs).to_bytes())
        return path


def build_perceiver_from_file(
    bank: str, threads: int, art: str, *, closed_set: bool = False
) -> BatchFunction:
    """The perceiver, inside a worker that sees the cache."""
    from evaluation.perception.embedded.perceiver import build_embedded_perceiver

    return build_embedded_perceiver(Path(bank).read_bytes(), threads=threads, art=art, closed_set=closed_set)


class ProfilePerception:
    """Implements :class:`assets.graph.interfaces.Perception` for the models that a profile names.

    Raises FoundryError, when it is made, for a role that names no model or one that cannot fill it.
    """

    def __init__(
        self,
        profile: PerceptionProfile,
        world_path: Path,
        cache: Path,
        threads: int,
        *,
        workers_see_cache: bool = True,
    ) -> None:
        self._profile = profile
        self._cache = cache
        self._threads = threads
        self._regions = partial(
            EmbeddedRegions, world_path, cache, threads, workers_see_cache=workers_see_cache
        )
        self._made: dict[tuple[str, Role], PerceptionModel] = {}
        self._check()

    def model(self, role: Role) -> PerceptionModel | None:
        """See :class:`assets.graph.interfaces.Perception`."""
        if role == "detector":
            return next(iter(self.detectors().values()))
        name = getattr(self._profile, role)
        return None if name is None else self._model(name, role)

    def detectors(self) -> Mapping[str, PerceptionModel]:
        """See :class:`assets.graph.interfaces.Perception`."""
        return {name: self._model(name, "detector") for name in self._profile.detectors}

    def _model(self, name: str, role: Role) -> PerceptionModel:
        if (name, role) not in self._made:
            self._made[name, role] = self._make(name, role)
        return self._made[name, role]

    def _make(self, name: str, role: Role) -> PerceptionModel:
        settings = dict(self._settings(name, role))
        family = settings.pop("family", None)
        if family == EMBEDDED:
            own = validate(EmbeddedSettings, settings, f"profile.yaml: perception.models.{name}")
            return self._embedded(role, own)
        if family == NANODET:
            own_detector = validate(NanoDetSettings, settings, f"profile.yaml: perception.models.{name}")
            return self._nanodet(name, role, own_detector)
        return _hub_model(name, role, {"family": family, **settings}, self._cache)

    def _embedded(self, role: Role, settings: EmbeddedSettings) -> PerceptionModel:
        if role in ("regions", "closed_set"):
            return self._regions(art=settings.art, closed_set=role == "closed_set")
        from evaluation.perception.embedded import roles as embedded_roles

        makers: Mapping[Role, Callable[..., embedded_roles.EmbeddedRole]] = {
            "captioner": partial(embedded_roles.captioner, k=settings.k, seed=settings.seed),
            "phrases": embedded_roles.phrases,
            "nouns": embedded_roles.nouns,
            "detector": partial(embedded_roles.detector, settings.min_similarity, settings.min_grounding),
            "describer": embedded_roles.describer,
            "masks": partial(embedded_roles.masks, settings.min_mask_iou),
        }
        found = makers[role]()
        rows = TEXT_ROWS if role in ("phrases", "nouns") else LIGHT_ROWS
        return Model(
            found.name,
            found.digest,
            partial(BatchWorker, found.factory, found.kwargs),
            found.reads,
            Resources(threads=self._threads, batch_size=256, inline_rows=rows, keep_loaded=True),
        )

    def _nanodet(self, name: str, role: Role, settings: NanoDetSettings) -> PerceptionModel:
        from evaluation.perception.networks.nanodet import (
            NANODET_NAME,
            NANODET_READS,
            nanodet_digest,
        )

        if role != "detector":
            raise FoundryError(
                f"profile.yaml: perception.{role} is '{name}', but NanoDet is a detector only."
            )
        limits = settings.model_dump()
        return Model(
            NANODET_NAME,
            nanodet_digest(**limits),
            partial(_fetched_nanodet, {**limits, "threads": self._threads}),
            NANODET_READS,
            Resources(threads=self._threads, batch_size=16),
        )

    def _settings(self, name: str, role: str) -> Mapping[str, Any]:
        models = self._profile.models
        if name not in models:
            near = get_close_matches(name, models, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise FoundryError(
                f"profile.yaml: perception.{role} names the model '{name}', but perception.models has: "
                f"{', '.join(models)}.{hint}"
            )
        return models[name]

    def _check(self) -> None:
        """Everything that can be checked before work starts, without looking at any checkpoint."""
        roles: list[tuple[Role, str | None]] = [
            ("regions", self._profile.regions),
            ("closed_set", self._profile.closed_set),
            ("captioner", self._profile.captioner),
            ("nouns", self._profile.nouns),
            ("phrases", self._profile.phrases),
            *(("detector", name) for name in self._profile.detectors),
            ("describer", self._profile.describer),
            ("masks", self._profile.masks),
        ]
        for role, name in roles:
            if name is None:
                continue
            model = self._model(name, role)
            if "regions" in model.reads and self._profile.regions is None:
                raise FoundryError(
                    f"profile.yaml: perception.{role} is '{name}', which reads regions, but perception.regions is "
                    "empty. Set it to an embedded model."
                )


def _fetched_nanodet(arguments: Mapping[str, Any]) -> BatchWorker:
    """A worker of NanoDet. Raises FoundryError, before any work starts, where its files were not fetched."""
    from evaluation.perception.downloads import NANODET as PAYLOAD
    from evaluation.perception.downloads import payload_files
    from evaluation.perception.networks.nanodet import build_nanodet_worker

    payload_files(PAYLOAD)
    return BatchWorker(build_nanodet_worker, arguments)


def _hub_model(name: str, role: Role, settings: Mapping[str, Any], cache: Path) -> PerceptionModel:
    from evaluation.perception.hub.models import HUB_ROLES, HubPerceptionModel

    if role not in HUB_ROLES:
        raise FoundryError(
            f"profile.yaml: perception.{role} is '{name}', of the family '{settings['family']}'; the role "
            f"'{role}' is filled by an embedded model. Models by path fill: {', '.join(HUB_ROLES)}."
        )
    return _FromHub(HubPerceptionModel(name, settings, role, cache / "weight-digests.json"))


class _FromHub:
    """A model by path or hub id. Its checkpoint is looked at when the digest is asked for, not when it is named."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.name: str = model.name
        self.reads: tuple[str, ...] = model.reads

    @property
    def digest(self) -> str:
        """See :class:`assets.graph.interfaces.PerceptionModel`."""
        return str(self._model.digest)

    @property
    def resources(self) -> Resources:
        """See :class:`assets.graph.interfaces.PerceptionModel`."""
        return Resources(**self._model.resources)

    def worker(self) -> BatchWorker:
        """See :class:`assets.graph.interfaces.PerceptionModel`."""
        factory, arguments = self._model.worker()
        return BatchWorker(factory, arguments)
