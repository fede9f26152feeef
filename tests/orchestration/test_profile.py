"""Profiles are data: what may be shared between them, and mistakes that are named with file and field."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assets.distillation.shipped_teachers import ShippedTeacher
from assets.models.partitions import model_partitions
from assets.models.training_runs import execution_of
from orchestration import profile as profiles
from orchestration.definitions import surroundings_of
from orchestration.workspace import PROFILES_FOLDER, Workspace
from training.backbones import build_backbone, model_parameters
from training.distillation import student_config
from training.distillation.features import feature_pairs
from training.errors import FoundryError
from training.model_folders.classes import backbone_part
from training.model_folders.teachers import TEACHERS
from training.packaged_models import teacher_digests
from training.recipes.feature_distillation import FeatureDistillationOptions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the smoke profile under the name ``mine``, where profiles are looked for."""
    monkeypatch.setattr(profiles, "PROFILES_FOLDER", tmp_path)
    for name, source in (("mine", "smoke"), ("demo", "demo")):
        shutil.copytree(PROFILES_FOLDER / source, tmp_path / name)
    return tmp_path / "mine"


def load(folder: Path, line: str) -> profiles.Profile:
    path = folder / "profile.yaml"
    key = line.partition(":")[0]
    others = [own for own in path.read_text().splitlines() if not key or not own.startswith(f"{key}:")]
    path.write_text("\n".join([line, *others]))
    return profiles.load_profile.__wrapped__(folder.name)


def test_a_profile_may_show_another_one_s_world(folder: Path) -> None:
    assert load(folder, "").world_path == folder / "world.yaml"
    assert load(folder, "world: demo").world_path == folder.parent / "demo" / "world.yaml"


def test_a_world_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(FoundryError, match=r"profile\.yaml: field 'world' is 'dmeo'.*allowed are demo, mine"):
        load(folder, "world: dmeo")


def test_teachers_are_those_that_ship(folder: Path) -> None:
    names = sorted(teacher_digests())
    assert load(folder, f"teachers: [{', '.join(names)}]").of("teacher_backbone") == {
        name: ShippedTeacher(name, teacher_digests()[name]) for name in names
    }


def test_a_teacher_that_does_not_ship_is_named_with_those_that_do(folder: Path) -> None:
    with pytest.raises(
        FoundryError, match=r"field 'teachers' is \['teacher-unit'\].*the names are: teacher-"
    ):
        load(folder, "teachers: [teacher-unit]")


def test_a_profile_says_how_trainings_run(folder: Path, tmp_path: Path) -> None:
    found = load(
        folder, "execution: {text_mode: stage, checkpoint_every_seconds: 600, activation_checkpointing: true}"
    )
    workspace = Workspace(tmp_path / "home", "mine", "scenes")
    made = surroundings_of(workspace, found).models
    execution = execution_of(found.of("backbone")["unet-tiny"], made, {"dataset": tmp_path})
    assert (execution.text_mode, execution.text_encoder) == ("stage", found.text_encoder)
    assert execution.checkpoint_every_seconds == 600
    assert execution.activation_checkpointing
    assert execution.input_paths == {"dataset": str(tmp_path)}
    stored = dataclasses.replace(made, execution={})
    assert execution_of(found.of("backbone")["unet-tiny"], stored, {}).text_encoder is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "execution: {text_mod: stage}",
            r"profile\.yaml: execution: unknown key 'text_mod'; did you mean 'text_mode'",
        ),
        ("execution: {keep_checkpoints: 0}", r"execution: 'keep_checkpoints'"),
        ("execution: {threads: 4}", r"execution sets 'threads', which follows from compute"),
        ("execution: stage", r"'execution' must map settings to values, found str"),
    ],
)
def test_impossible_ways_to_run_are_refused(folder: Path, line: str, says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        load(folder, line)


def test_an_unknown_key_gets_its_neighbour(folder: Path) -> None:
    with pytest.raises(FoundryError, match=r"unknown key 'techers'. Did you mean 'teachers'"):
        load(folder, "techers: []")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            "transformer-tiny-30",
            "'demo_models' names 'transformer-tiny-30'; models made from others are sd3-",
        ),
        (
            "transformer-tiny-recovered",
            "'demo_models' names 'transformer-tiny-recovered', but not its parent 'transformer-tiny-ecodiff-20'; add it",
        ),
    ],
)
def test_models_of_the_demo_and_their_parents_are_recipes_of_the_profile(
    folder: Path, names: str, says: str
) -> None:
    path = folder / "profile.yaml"
    path.write_text(re.sub("demo_models: .*", f"demo_models: [{names}]", path.read_text()))
    with pytest.raises(FoundryError, match=says):
        load(folder, "")


def test_a_name_that_two_kinds_of_models_share_is_refused(folder: Path) -> None:
    path = folder / "pruned.yaml"
    path.write_text(
        path.read_text() + "  unet-tiny-small: {scores: transformer-tiny-ecodiff, sparsity: 0.1}\n"
    )
    with pytest.raises(
        FoundryError, match=r"'unet-tiny-small' names a model in distilled\.yaml and in pruned\."
    ):
        load(folder, "")


def test_a_scoring_of_a_model_that_there_is_not_is_refused(folder: Path) -> None:
    path = folder / "unit_scores.yaml"
    path.write_text(path.read_text().replace("parent: transformer-tiny}", "parent: transformer-tinny}"))
    recipes = load(folder, "").recipes
    with pytest.raises(FoundryError, match="recipe 'transformer-tiny-ecodiff' of unit_scores has parent"):
        model_partitions(recipes)


def test_a_fine_tuning_without_a_parent_is_refused(folder: Path) -> None:
    path = folder / "fine_tuned.yaml"
    path.write_text("recipes: {tuned: {backbone: UNet-tiny, images_total: 8, learning_rate: 0.1}}")
    with pytest.raises(FoundryError, match=r"fine_tuned\.yaml, recipe 'tuned': 'parent' is missing"):
        load(folder, "")


@pytest.mark.parametrize("name", ["smoke", "demo", "gpu"])
def test_every_student_of_a_profile_can_be_cut_and_is_taught_by_features_that_are_there(name: str) -> None:
    profile = profiles.load_profile(name)
    made: dict[object, tuple[nn.Module, nn.Module]] = {}
    for recipe in profile.of("distilled_backbone").values():
        options, source = recipe.options_of(FeatureDistillationOptions), recipe.parent
        while source not in profile.of("backbone") and source not in profile.of("teacher_backbone"):
            source = profile.of("step_distilled_backbone")[str(source)].parent
        key = (source, options.student)
        if key not in made:
            with torch.device("meta"):
                teacher = empty_backbone(profile, str(source))
                made[key] = teacher, type(teacher).from_config(student_config(teacher, options.student))
        teacher, student = made[key]
        assert model_parameters(student) < model_parameters(teacher)
        pairs = feature_pairs(student, teacher, options.student, options.features)
        assert bool(pairs) == (options.features != ())


def empty_backbone(profile: profiles.Profile, name: str) -> Any:
    """A backbone of the profile without its weights."""
    if name in profile.of("backbone"):
        return build_backbone(str(profile.of("backbone")[name].backbone))
    part, kind = backbone_part(TEACHERS / name)
    return kind.from_config(kind.load_config(TEACHERS / name / part))
