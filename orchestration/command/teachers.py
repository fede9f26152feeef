"""``foundry teachers``: train the teachers that ship, score them and pack them."""

from __future__ import annotations

from pathlib import Path

from assets.models.phases import STUDENTS
from orchestration.command.demo import check_landing, materialize
from orchestration.command.output import console, errors, print_rows
from orchestration.profile import load_profile
from orchestration.workspace import Workspace
from training.errors import FoundryError


def run(workspace: Workspace, into: Path | None, *, train_autoencoder: bool, as_json: bool) -> int:
    """Bring the profile's backbones and judge up to date, then score and pack; returns the exit code.

    What is packed shares one autoencoder: the shipped one, or one trained here, in whose latents the teachers that ship
    mean nothing. ``into`` None is a folder of the workspace, so that those stay what they are.
    """
    into = into or workspace.root / "packed"
    profile = load_profile(workspace.profile)
    check_landing(workspace)
    talk = errors if as_json else console
    talk.print(f"[bold]T2I Foundry[/bold] teachers: profile {profile.name}, in {workspace.root}")
    from assets.distillation.teacher_scores import ROWS
    from orchestration.teachers import pack_autoencoder, pack_teachers

    surroundings, result = materialize(
        workspace, profile, talk, train_autoencoder=train_autoencoder, until=STUDENTS
    )
    if result.error:
        raise FoundryError(f"{result.error} What was finished is kept: run it again to go on.")
    if train_autoencoder:
        talk.print(f"autoencoder packed: {pack_autoencoder(surroundings, into)}")
    packed = pack_teachers(surroundings, into, talk.print)
    rows = [
        {
            "teacher": teacher.name,
            "parameters": teacher.scores["num_parameters"],
            "images_seen": teacher.scores["images_seen"],
            **{
                key: teacher.scores["teacher"][key]["value"]
                for key in ROWS
                if key in teacher.scores["teacher"]
            },
            "folder": str(teacher.folder),
        }
        for teacher in packed
    ]
    print_rows(rows, as_json=as_json, title="Teachers")
    return 0
