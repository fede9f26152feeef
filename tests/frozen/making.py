"""Freeze anew, by ``python -m tests.frozen.making``: the spec hashes, or a finished smoke workspace (see README.md)."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.frozen import recipes, workspace


def main() -> None:
    """Write ``spec_hashes.json``, or archive and facts of the workspace below a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--workspace", type=Path, metavar="HOME", help="the FOUNDRY_HOME that it was made in")
    home = parser.parse_args().workspace
    if home is None:
        recipes.write()
        return
    workspace.pack(home)
    workspace.write_facts(ManifestStore(Workspace(home, workspace.PROFILE, workspace.DATA).store))


if __name__ == "__main__":
    main()
