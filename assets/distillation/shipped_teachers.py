"""The teachers of a profile: names of trained backbones that ship with the project, and the digests of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assets.graph.model_kinds import ProfileFiles
from training.errors import FoundryError
from training.packaged_models import teacher_digests


@dataclass(frozen=True)
class ShippedTeacher:
    """A teacher that a profile publishes."""

    name: str
    digest: str

    def settings(self) -> dict[str, Any]:
        """What it is made from, for provenance."""
        return {"shipped": self.digest}


def load_teachers(files: ProfileFiles) -> Mapping[str, ShippedTeacher]:
    """Teachers that ``teachers`` of ``profile.yaml`` names. Raises FoundryError for one that does not ship."""
    named, shipped = files.settings.get("teachers", []), teacher_digests()
    if not isinstance(named, list) or any(name not in shipped for name in named):
        raise FoundryError(
            f"{files.folder / 'profile.yaml'}: field 'teachers' is {named!r}: no teacher of that name ships; "
            f"the names are: {', '.join(shipped)}. Correct the file."
        )
    return {name: ShippedTeacher(name, shipped[name]) for name in named}
