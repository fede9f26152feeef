"""``foundry teachers``: train the teachers that ship, score them and pack them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.models.phases import STUDENTS
from orchestration.command.demo import check_landing, materialize
from orchestration.command.output import console, errors, print_rows
from orchestration.profile import load_profile
from orchestration.workspace import Workspace
from training.errors import FoundryError

if TYPE_CHECKING:
    from orchestration.teachers import PackedTeacher


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
    from orchestration.teachers import pack_autoencoder, pack_teachers

    surroundings, result = materialize(
        workspace, profile, talk, train_autoencoder=train_autoencoder, until=STUDENTS
    )
    if result.error:
        raise FoundryError(f"{result.error} What was finished is kept: run it again to go on.")
    if train_autoencoder:
        talk.print(f"autoencoder packed: {pack_autoencoder(surroundings, into)}")
    packed = pack_teachers(surroundings, into, talk.print)
    print_rows(_for_programs(packed) if as_json else _for_people(packed), as_json=as_json, title="Teachers")
    return 0


def _for_programs(packed: Sequence[PackedTeacher]) -> list[dict[str, Any]]:
    """A row a teacher."""
    return [
        {
            "teacher": teacher.name,
            "parameters": teacher.scores["num_parameters"],
            "images_seen": teacher.scores["images_seen"],
            **{key: teacher.scores["teacher"][key]["value"] for key in _scored(packed)},
            "folder": str(teacher.folder),
        }
        for teacher in packed
    ]


def _for_people(packed: Sequence[PackedTeacher]) -> list[dict[str, Any]]:
    """A row a score and a column a teacher, which a terminal holds."""
    from assets.distillation.teacher_scores import ROWS

    told: dict[str, Callable[[PackedTeacher], Any]] = {
        "parameters": lambda teacher: teacher.scores["num_parameters"],
        "images seen": lambda teacher: teacher.scores["images_seen"],
        **{ROWS[key]: partial(_value, key=key) for key in _scored(packed)},
        "folder": lambda teacher: str(teacher.folder),
    }
    return [{"": title, **{teacher.name: of(teacher) for teacher in packed}} for title, of in told.items()]


def _scored(packed: Sequence[PackedTeacher]) -> list[str]:
    """The scores that every teacher has."""
    from assets.distillation.teacher_scores import ROWS

    return [key for key in ROWS if all(key in teacher.scores["teacher"] for teacher in packed)]


def _value(teacher: PackedTeacher, key: str) -> float:
    return float(teacher.scores["teacher"][key]["value"])
