"""The shipped layout models of a profile: names of trained branches that ship with the project, and their digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assets.graph.model_kinds import ProfileFiles
from training.errors import FoundryError
from training.layout.shipping import base_of
from training.packaged_models import layout_model_digests


@dataclass(frozen=True)
class ShippedLayoutModel:
    """A layout model that a profile publishes; ``parent`` is the shipped teacher that its branch is grown on."""

    name: str
    digest: str
    parent: str

    def settings(self) -> dict[str, Any]:
        """What it is made from, for provenance."""
        return {"shipped": self.digest}


def load_shipped_layout_models(files: ProfileFiles) -> Mapping[str, ShippedLayoutModel]:
    """Layout models that ``shipped_layout_models`` of ``profile.yaml`` names. Raises FoundryError for one that does not ship."""
    named, shipped = files.settings.get("shipped_layout_models", []), layout_model_digests()
    if not isinstance(named, list) or any(name not in shipped for name in named):
        raise FoundryError(
            f"{files.folder / 'profile.yaml'}: field 'shipped_layout_models' is {named!r}: no layout model of that name "
            f"ships; the names are: {', '.join(shipped) or 'none'}. Correct the file."
        )
    return {name: ShippedLayoutModel(name, shipped[name], base_of(name)) for name in named}
