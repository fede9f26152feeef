"""The part of a profile that names perception models and says which fills which role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from evaluation.perception.roles import ROLES, PerceptionRole


class ModelsByRole(BaseModel):
    """Which model fills which role. ``models`` gives them names; a model's own settings are checked by its family."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=lambda: {"embedded": {"family": "embedded"}},
        description="settings by name; `family` says what kind of model it is",
    )

    def names(self, role: PerceptionRole) -> tuple[str, ...]:
        """The models named for a role, the one that counts first; none where it is left empty."""
        found = getattr(self, role.key)
        if found is None:
            return ()
        return (found,) if isinstance(found, str) else tuple(found)


def profile_of(roles: Mapping[str, PerceptionRole]) -> type[ModelsByRole]:
    """A profile with a field for each role."""
    fields: dict[str, Any] = {role.key: _field(role) for role in roles.values()}
    return create_model(
        "PerceptionProfile",
        __base__=ModelsByRole,
        __module__=__name__,
        __doc__=ModelsByRole.__doc__,
        **fields,
    )


def _field(role: PerceptionRole) -> tuple[Any, Any]:
    if role.allows_several:
        default = () if role.default is None else (role.default,)
        least = 0 if role.may_be_empty else 1
        return tuple[str, ...], Field(default, min_length=least, description=role.about)
    kind = str | None if role.may_be_empty else str
    return kind, Field(role.default, description=role.about)


if TYPE_CHECKING:

    class PerceptionProfile(ModelsByRole):
        """The fields are those of the roles, which the type checker does not know."""

        def __init__(self, **fields: Any) -> None: ...

else:
    PerceptionProfile = profile_of(ROLES)
