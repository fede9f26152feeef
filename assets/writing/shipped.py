"""The shipped writers of a profile: names of trained models that write and ship with the project, and their digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assets.graph.model_kinds import ProfileFiles
from training.errors import FoundryError
from training.packaged_models import writer_digests


@dataclass(frozen=True)
class ShippedWriter:
    """A writer that a profile publishes."""

    name: str
    digest: str

    def settings(self) -> dict[str, Any]:
        """What it is made from, for provenance."""
        return {"shipped": self.digest}


def load_shipped_writers(files: ProfileFiles) -> Mapping[str, ShippedWriter]:
    """Writers that ``writers`` of ``profile.yaml`` names. Raises FoundryError for one that does not ship."""
    named, shipped = files.settings.get("writers", []), writer_digests()
    if not isinstance(named, list) or any(name not in shipped for name in named):
        raise FoundryError(
            f"{files.folder / 'profile.yaml'}: field 'writers' is {named!r}: no writer of that name ships; the names are: "
            f"{', '.join(shipped) or 'none'}. Correct the file."
        )
    return {name: ShippedWriter(name, shipped[name]) for name in named}
