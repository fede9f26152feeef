"""Where everything lies: one workspace per profile and data set, below ``FOUNDRY_HOME``.

The environment is read here and nowhere else. ``FOUNDRY_HOME`` is the storage root (default: ``data/`` in the
project), ``FOUNDRY_PROFILE`` names the profile and ``FOUNDRY_DATA`` the source in the landing folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.errors import FoundryError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
PROFILES_FOLDER = Path(__file__).resolve().parent / "profiles"
DEFAULT_DATA = "scenes"
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")


@dataclass(frozen=True)
class Workspace:
    """Folders of one profile and data set. ``home`` is absolute."""

    home: Path
    profile: str
    data: str

    @property
    def root(self) -> Path:
        """Everything that belongs to this profile and data set."""
        return self.home / f"{self.profile}-{self.data}"

    @property
    def landing(self) -> Path:
        """Landing folder of the workspace's source: whatever is dropped here is picked up.

        A composed source depends on the profile and so lands inside the workspace; imported sources are shared.
        """
        if self.data == DEFAULT_DATA:
            return self.root / "landing" / self.data
        return self.landing_root / self.data

    @property
    def landing_root(self) -> Path:
        """Folder that holds one landing folder per imported source."""
        return self.home / "landing"

    @property
    def store(self) -> Path:
        """Root of the table and folder store."""
        return self.root / "store"

    @property
    def runs(self) -> Path:
        """Training run folders, one per spec hash."""
        return self.root / "runs"

    @property
    def dagster(self) -> Path:
        """Dagster's own database and logs (see ``dagster.yaml``)."""
        return self.root / "dagster"

    @property
    def is_composed(self) -> bool:
        """Whether the data are the demo's own composed scenes, for which a truth table exists."""
        return self.data == DEFAULT_DATA

    def environment(self) -> dict[str, str]:
        """What a child process must see so that it works on this workspace."""
        return {
            "FOUNDRY_HOME": str(self.home),
            "FOUNDRY_PROFILE": self.profile,
            "FOUNDRY_DATA": self.data,
            "FOUNDRY_DAGSTER_STORAGE": str(self.dagster),
            "DAGSTER_HOME": str(PROJECT_ROOT),
            "PWD": str(PROJECT_ROOT),
        }


def workspace_from_environment(environment: Mapping[str, str] = os.environ) -> Workspace:
    """The workspace that the environment names. Raises FoundryError on a profile or name that cannot be."""
    home = Path(environment.get("FOUNDRY_HOME") or "data").expanduser()
    profile = environment.get("FOUNDRY_PROFILE") or "demo"
    data = environment.get("FOUNDRY_DATA") or DEFAULT_DATA
    known = sorted(path.parent.name for path in PROFILES_FOLDER.glob("*/profile.yaml"))
    if profile not in known:
        raise FoundryError(
            f"FOUNDRY_PROFILE is '{profile}', but the profiles are: {', '.join(known)}. Set it to one of them."
        )
    if not _NAME.match(data):
        raise FoundryError(
            f"FOUNDRY_DATA is '{data}', but names are lower-case letters, digits, '.', '_' and '-', "
            "at most 64 of them. Use the name that was given to `foundry import`."
        )
    return Workspace(home if home.is_absolute() else PROJECT_ROOT / home, profile, data)
