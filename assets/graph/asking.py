"""Ask a perception model: the one in a role that cannot stay empty, and its answers in this process. Light: it loads nothing."""

from __future__ import annotations

from assets.graph.interfaces import BatchFunction, Perception, PerceptionModel
from evaluation.perception.roles import Role
from training.errors import FoundryError


def required(perception: Perception, role: Role, remedy: str | None = None) -> PerceptionModel:
    """The model of a role that cannot stay empty. Raises FoundryError that says where to name one, or the given remedy."""
    model = perception.model(role)
    if model is None:
        remedy = remedy or f"set perception.{role} in profile.yaml to one of perception.models"
        raise FoundryError(f"the profile's role '{role}' is empty; {remedy}")
    return model


def answer_of(model: PerceptionModel) -> BatchFunction:
    """The model's batch function, loaded in this process."""
    worker = model.worker()
    return worker.factory(**worker.kwargs)
