"""``foundry plan``: one recipe, a profile with its grid, the paper's profile; one sentence for a mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestration import planning
from orchestration.command.main import app
from orchestration.planning import branches_of, machine_settings, wanted_of
from orchestration.profile import load_profile
from orchestration.workspace import PROFILES_FOLDER
from training.errors import FoundryError


def _plan(*arguments: str) -> list[dict[str, Any]]:
    found = CliRunner().invoke(app, ["plan", *arguments, "--json"], catch_exceptions=False)
    rows: list[dict[str, Any]] = json.loads(found.stdout)
    return rows


def test_one_recipe_in_detail() -> None:
    (row,) = _plan("transformer-tiny", "--profile", "smoke", "--gpus", "2", "--price", "3", "--images", "100")
    assert row["projected"] is True
    assert row["memory"]["total"] == sum(size for part, size in row["memory"].items() if part != "total")
    assert row["cost"] == pytest.approx(3 * row["gpu_hours"])
    assert [text["mode"] for text in row["storage"]["texts"]] == ["stored", "stage", "step"]
    assert row["fits"]
    assert row["remedies"] == []
    text = CliRunner().invoke(app, ["plan", "transformer-tiny", "--profile", "smoke"]).stdout
    for said in ("It fits", "give --images", "projected at 35%"):
        assert said in text


def test_a_profile_with_its_grid_is_one_table() -> None:
    rows = _plan("smoke")
    names = [row["recipe"] for row in rows]
    assert names[-1] == "sd3-tiny-siam"  # the profile's layout model, on its parent's backbone
    assert rows[-1]["trained_parameters"] < rows[-1]["parameters"]
    assert names[:3] == ["transformer-tiny", "transformer-tiny-seed1", "unet-tiny"]
    grid = load_profile("smoke").grid
    assert grid is not None
    assert sum(row["runs"] for row in rows if row["recipe"].startswith("grid.")) == len(grid.points)
    point = next(iter(grid.points))
    (one,) = _plan(point, "--profile", "smoke")
    assert one["recipe"] == point


def test_the_papers_grid_has_every_variant_and_its_steps() -> None:
    wanted = {each.label: each.recipe for each in wanted_of("paper")}
    assert len({recipe.backbone for recipe in wanted.values()}) == 21
    steps = {name: recipe.images_total // recipe.batch_size for name, recipe in wanted.items()}
    assert steps["sdxl-td4_4-850k"] == 850_000
    assert all(number == 800_000 for name, number in steps.items() if name.startswith("pixart"))
    assert steps["sdxl"] == steps["sdxl-c128-batch4096"] == 600_000
    assert machine_settings("paper")["strategy"] == "fsdp"
    (row,) = _plan("sdxl-c128", "--profile", "paper")
    assert row["training_gflops"] == pytest.approx(2.57e11, rel=0.01)
    assert row["storage"]["images"] == 250_000_000


def test_layout_models_of_published_size_are_planned_by_name_on_machines_of_their_own() -> None:
    (lora,) = _plan("siamlayout-sd3-lora", "--profile", "paper")
    assert lora["trained_parameters"] == pytest.approx(0.332e9, rel=0.002)
    assert lora["parameters"] == pytest.approx(2.360e9, rel=0.002)
    assert (lora["gpus"], lora["gpu"], lora["strategy"]) == (8, "A100 40GB", "ddp")
    assert lora["fits"]
    (small,) = _plan("siamlayout-sd3-lora", "--profile", "paper", "--optimizer", "adamw8bit")
    assert small["memory"]["optimizer"] == pytest.approx(lora["memory"]["optimizer"] / 4, rel=0.02)
    assert {each.label for each in branches_of("paper")} == {
        "siamlayout-sd3", "siamlayout-sd3-lora", "siamlayout-flux",
    }  # fmt: skip


def test_a_layout_model_starts_from_a_recipe_that_names_a_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROFILES_FOLDER / "teacher", tmp_path / "teacher")
    shutil.copytree(PROFILES_FOLDER / "smoke", tmp_path / "smoke")
    monkeypatch.setattr(planning, "PROFILES_FOLDER", tmp_path)
    path = tmp_path / "smoke" / "layout_models.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("parent: sd3-tiny,", "parent: teacher-mmdit,"), encoding="utf-8")
    assert [each.recipe.backbone for each in branches_of("smoke")] == ["SD3-teacher"]
    path.write_text(text.replace("parent: sd3-tiny,", "parent: unknown,"), encoding="utf-8")
    with pytest.raises(FoundryError, match="made from 'unknown', whose backbone no recipe names"):
        branches_of("smoke")


def test_what_does_not_fit_is_said_plainly() -> None:
    command = [
        "plan",
        "sdxl-c128",
        "--profile",
        "paper",
        "--strategy",
        "ddp",
        "--gpus",
        "8",
        "--gpu",
        "a100-40",
    ]
    found = CliRunner().invoke(app, [*command, "--batch-per-gpu", "256"], catch_exceptions=False)
    assert "It does not fit" in found.stdout
    assert "It fits with: --batch-per-gpu 64 (micro_batches 4)" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["transfomer-tiny", "--profile", "smoke"], "did you mean 'transformer-tiny'"),
        (["papr"], "did you mean 'paper'"),
        (["transformer-tiny", "--profile", "smok"], "did you mean 'smoke'"),
        (["transformer-tiny", "--profile", "smoke", "--strategy", "fsdp"], "with one GPU"),
        (
            ["koala-unet", "--profile", "demo"],
            "'koala-unet' of distilled.yaml is made from 'teacher-unet', and only trainings from scratch and layout "
            "branches are planned",
        ),
    ],
)
def test_a_mistake_is_told(arguments: list[str], says: str) -> None:
    found = CliRunner().invoke(app, ["plan", *arguments])
    assert isinstance(found.exception, FoundryError)
    assert says in str(found.exception)


def test_the_papers_profile_is_not_run() -> None:
    with pytest.raises(FoundryError, match="foundry plan paper"):
        load_profile("paper")
