"""Arguments that several commands share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.workspace import Workspace, workspace_from_environment

if TYPE_CHECKING:
    from orchestration.resources.store import ManifestStore

AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
Data = Annotated[
    str | None,
    typer.Option(help="name of an imported source; default FOUNDRY_DATA, then the composed scenes"),
]
Partition = Annotated[str | None, typer.Option(help="one partition; default all")]


def workspace(data: str | None = None, *, profile: str | None = None) -> Workspace:
    """The workspace that the environment and ``--data`` name; ``profile`` is for where the environment names none."""
    environment = dict(os.environ)
    if profile:
        environment.setdefault("FOUNDRY_PROFILE", profile)
    if data:
        environment["FOUNDRY_DATA"] = data
    return workspace_from_environment(environment)


def open_store(data: str | None) -> ManifestStore:
    """The store of the workspace."""
    from orchestration.resources.store import ManifestStore

    return ManifestStore(workspace(data).store)
