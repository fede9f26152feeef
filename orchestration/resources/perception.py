"""The perception resource: which models fill which roles, and what they find where they work."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from assets.graph.interfaces import BatchWorker, PerceptionModel, Resources
from evaluation.perception.role_models import BankInputs, Nomination, RoleModel, Workplace, make_model
from evaluation.perception.roles import ROLES, PerceptionRole
from orchestration.perception_profile import ModelsByRole
from training.errors import FoundryError


class ProfilePerception:
    """Implements :class:`assets.graph.interfaces.Perception` for the models that a profile names.

    Raises FoundryError, when it is made, for a role that names no model or one that cannot fill it.
    """

    def __init__(
        self,
        profile: ModelsByRole,
        world_path: Path,
        cache: Path,
        threads: int,
        *,
        workers_see_cache: bool = True,
    ) -> None:
        self._profile = profile
        self._workplace = Workplace(
            partial(bank_inputs, world_path), cache, threads, workers_see_cache=workers_see_cache
        )
        self._made: dict[tuple[str, str], PerceptionModel] = {}
        self._check()

    def model(self, role: str) -> PerceptionModel | None:
        """See :class:`assets.graph.interfaces.Perception`."""
        names = self._profile.names(ROLES[role])
        return self._model(names[0], ROLES[role]) if names else None

    def detectors(self) -> Mapping[str, PerceptionModel]:
        """See :class:`assets.graph.interfaces.Perception`."""
        role = ROLES["detector"]
        return {name: self._model(name, role) for name in self._profile.names(role)}

    def _model(self, name: str, role: PerceptionRole) -> PerceptionModel:
        if (name, role.name) not in self._made:
            made = make_model(Nomination(name, role, self._settings(name, role)), self._workplace)
            self._made[name, role.name] = _InRole(made)
        return self._made[name, role.name]

    def _settings(self, name: str, role: PerceptionRole) -> Mapping[str, object]:
        models = self._profile.models
        if name not in models:
            near = get_close_matches(name, models, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise FoundryError(
                f"profile.yaml: perception.{role.name} names the model '{name}', but perception.models has: "
                f"{', '.join(models)}.{hint}"
            )
        return models[name]

    def _check(self) -> None:
        """Everything that can be checked before work starts, without looking at any checkpoint."""
        for role in ROLES.values():
            for name in self._profile.names(role):
                model = self._model(name, role)
                if "regions" in model.reads and not self._profile.names(ROLES["regions"]):
                    raise FoundryError(
                        f"profile.yaml: perception.{role.name} is '{name}', which reads regions, but "
                        "perception.regions is empty. Set it to an embedded model."
                    )


def bank_inputs(world_path: Path, art: str) -> BankInputs:
    """Pictures of what training shows by name of their look, and the words that may be answered where the bank knows
    nothing."""
    from assets.corpus.art import bank_pictures, drawings
    from assets.corpus.scenes import load_any_world

    return bank_pictures(load_any_world(world_path).training_looks, art=art), tuple(sorted(drawings()))


class _InRole:
    """A model as assets ask for it. Its files are looked at when the digest is asked for, not when it is named."""

    def __init__(self, model: RoleModel) -> None:
        self._model = model
        self.name: str = model.name
        self.reads: tuple[str, ...] = model.reads

    @property
    def digest(self) -> str:
        """See :class:`assets.graph.interfaces.PerceptionModel`."""
        return self._model.digest

    @property
    def resources(self) -> Resources:
        """See :class:`assets.graph.interfaces.PerceptionModel`."""
        return Resources(**self._model.resources)

    def worker(self) -> BatchWorker:
        """See :class:`assets.graph.interfaces.PerceptionModel`."""
        factory, arguments = self._model.worker()
        return BatchWorker(factory, arguments)
