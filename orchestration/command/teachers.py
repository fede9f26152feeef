"""``foundry teachers``: train the teachers that ship and the layout branches of them, score them and pack them."""

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
    from orchestration.teachers import PackedLayoutModel, PackedTeacher


def run(workspace: Workspace, into: Path | None, *, train_autoencoder: bool, as_json: bool) -> int:
    """Bring the profile's backbones, layout models and judge up to date, then score and pack; returns the exit code.

    What is packed shares one autoencoder: the shipped one, or one trained here, in whose latents the teachers that ship
    mean nothing. ``into`` None is a folder of the workspace, so that those stay what they are.
    """
    into = into or workspace.root / "packed"
    profile = load_profile(workspace.profile)
    if not (profile.of("backbone") or profile.of("layout_model")):
        raise FoundryError(
            f"profile {profile.name} has neither backbones nor layout models, so there is nothing to pack"
        )
    check_landing(workspace)
    talk = errors if as_json else console
    talk.print(f"[bold]T2I Foundry[/bold] teachers: profile {profile.name}, in {workspace.root}")
    from orchestration.teachers import pack_autoencoder, pack_layout_models, pack_teachers
    from orchestration.writers import pack_writers, sign_world

    surroundings, result = materialize(
        workspace, profile, talk, train_autoencoder=train_autoencoder, until=STUDENTS
    )
    if result.error:
        raise FoundryError(f"{result.error} What was finished is kept: run it again to go on.")
    if train_autoencoder:
        talk.print(f"autoencoder packed: {pack_autoencoder(surroundings, into)}")
    if sign_world(surroundings) is not None:
        _show_writers(pack_writers(surroundings, into, talk.print), as_json=as_json)
        return 0
    packed = pack_teachers(surroundings, into, talk.print)
    layouts = [_layout_row(model) for model in pack_layout_models(surroundings, into, talk.print)]
    if as_json:
        print_rows([*_for_programs(packed), *layouts], as_json=True)
        return 0
    print_rows(_for_people(packed), as_json=False, title="Teachers")
    if layouts:
        print_rows(layouts, as_json=False, title="Layout models")
    return 0


def _layout_row(packed: PackedLayoutModel) -> dict[str, Any]:
    """What a layout model scored; shares of told objects recognised in their box."""
    by_row = {row["drawn"]: row for row in packed.scores["rows"]}
    shares = {f"in box, {name}": round(row["in_box"], 3) for name, row in by_row.items()}
    return {
        "layout_model": packed.name,
        "base": packed.base,
        "branch_parameters": packed.scores["branch_parameters"],
        "images_seen": packed.scores["images_seen"],
        **shares,
        "folder": str(packed.folder),
    }


def _show_writers(packed: Sequence[PackedTeacher], *, as_json: bool) -> None:
    rows = [
        {
            "writer": writer.name,
            "parameters": writer.scores["num_parameters"],
            "images_seen": writer.scores["images_seen"],
            **{name: round(writer.scores["drawn"][name]["value"], 3) for name in ("f1", "exact", "color")},
            "f1_reconstructed": round(writer.scores["reconstructed"]["f1"]["value"], 3),
            "read_by": writer.scores["read_by"],
            "folder": str(writer.folder),
        }
        for writer in packed
    ]
    print_rows(rows, as_json=as_json, title="Writers")


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
