"""A perception model out of the hub as the platform knows it: name, digest, needs, and how a worker builds it.

Light: importing this, asking for the digest and the needs load no torch; the model is loaded in the worker, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.perception.by_name import load_by_name
from evaluation.perception.hub.families import FAMILIES
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel, read_settings
from evaluation.perception.hub.weights import check_checkpoint, resolve_folder, weights_digest
from evaluation.perception.role_models import BatchFunction, Nomination, RoleModel, Workplace
from evaluation.perception.roles import ROLES
from training.errors import FoundryError


class HubPerceptionModel:
    """One model in one role.

    Args:
        name: the profile's name of the model, written into rows.
        settings: fields of :class:`evaluation.perception.hub.settings.HubModel`.
        role: one of those that the family can take.
        digest_cache: JSON file in which digests of weight files are kept, so that they are hashed once a machine.

    Raises FoundryError for unknown or contradictory settings; the checkpoint is first looked at for its digest.
    """

    def __init__(
        self, name: str, settings: Mapping[str, Any], role: str, digest_cache: Path | None = None
    ) -> None:
        self.name = name
        self.role = role
        self.settings: HubModel = read_settings(settings, role, f"perception model '{name}'")
        self._cache = digest_cache

    @cached_property
    def digest(self) -> str:
        """sha256 over the checkpoint's files and every setting that changes the answer; loads no model.

        Raises FoundryError where the checkpoint is not there, of another family, or pickled.
        """
        folder = resolve_folder(self.settings.path, self.settings.revision)
        check_checkpoint(folder, self.settings.family)
        return self.settings.digest(self.role, weights_digest(folder, self._cache))

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns beyond its role's keys that the worker needs: the image, or nothing for a language model."""
        return ("image",) if FAMILIES[self.settings.family].reads_images else ()

    @property
    def resources(self) -> dict[str, float | int]:
        """What one worker needs: cpus, gpus, threads, actors (most workers) and batch_size (rows of a batch)."""
        names = ("cpus", "gpus", "threads", "actors", "batch_size")
        return {name: getattr(self.settings, name) for name in names}

    def worker(self) -> tuple[Callable[..., BatchFunction], dict[str, Any]]:
        """A module-level factory and its keyword arguments, which pickle; the factory loads the model."""
        return build_hub_worker, {
            "name": self.name,
            "settings": self.settings.model_dump(mode="json"),
            "role": self.role,
            "digest": self.digest,
            "digest_cache": None if self._cache is None else str(self._cache),
        }


def hub_model(nomination: Nomination, workplace: Workplace) -> RoleModel:
    """The model by path or hub id that a profile names. Raises FoundryError for a role that none can fill."""
    role = nomination.role
    if role.hub is None:
        able = ", ".join(row.name for row in ROLES.values() if row.hub is not None)
        raise FoundryError(
            f"{nomination.said}, of the family '{nomination.family}'; the role '{role.name}' is filled by an embedded "
            f"model. Models by path fill: {able}."
        )
    settings = {"family": nomination.family, **nomination.own_settings}
    model = HubPerceptionModel(nomination.name, settings, role.name, workplace.cache / "weight-digests.json")
    return RoleModel(model.name, model.reads, lambda: model.digest, model.worker, model.resources)


def build_hub_worker(
    name: str, settings: Mapping[str, Any], role: str, digest: str, digest_cache: str | None = None
) -> BatchFunction:
    """The batch function of a role, inside a worker.

    Raises FoundryError when the checkpoint found here has another digest than the rows would claim.
    """
    cache = None if digest_cache is None else Path(digest_cache)
    model = HubPerceptionModel(name, settings, role, cache)
    if model.digest != digest:
        raise FoundryError(
            f"perception model '{name}': the checkpoint '{model.settings.path}' on this machine is another one than "
            f"where the work was planned (digest {model.digest[:12]}, not {digest[:12]}). Copy the same files here."
        )
    folder = resolve_folder(model.settings.path, model.settings.revision)
    maker = Maker(name, digest)
    if model.settings.engine == "vllm":
        from evaluation.perception.hub.vllm import build_vllm_worker

        return build_vllm_worker(folder, model.settings, role, maker)
    return _build(folder, model.settings, role, maker)


def _build(folder: Path, settings: HubModel, role: str, maker: Maker) -> BatchFunction:
    import torch

    from evaluation.perception.hub.loading import load

    torch.set_num_threads(settings.threads)
    worker = load_by_name(FAMILIES[settings.family].roles[role].worker)
    answer: BatchFunction = worker(load(folder, settings), settings, maker)
    return answer
