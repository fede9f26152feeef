"""One row an objective: all that is asked of it elsewhere follows from the row."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any

import pytest

from training.errors import FoundryError
from training.objectives import Objective
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.contrastive import ContrastiveOptions
from training.recipes.diffusion import DiffusionOptions
from training.recipes.files import load_recipe
from training.recipes.objectives import OBJECTIVES, ObjectiveRow
from training.recipes.specification import Recipe


def recipe_of(name: str, **more: Any) -> Recipe:
    """The shortest recipe of an objective."""
    row = OBJECTIVES[name]
    start: dict[str, Any] = {"parent": "teacher"} if row.needs_parent else {}
    if row.takes_backbone and not row.needs_parent:
        start = {"backbone": "PixArt-tiny"}
    return load_recipe(
        {"name": "a", "objective": name, "images_total": 8, "learning_rate": 1e-3, **start, **more}
    )


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_row_names_a_class_and_a_section_that_is_filled_and_hashed_alone(name: str) -> None:
    row = OBJECTIVES[name]
    module, _, kind = row.made_by.partition(":")
    made_by = getattr(import_module(f"training.objectives.{module}"), kind)
    wanted = {key for key in vars(Objective) if not key.startswith("_")}
    assert wanted - {"module", "num_samples"} <= set(dir(made_by))
    recipe = recipe_of(name)
    assert recipe.options_of(row.options) == row.options()
    settings = recipe.settings()
    assert set(settings) & set(OBJECTIVES) == {name}
    assert settings[name] == row.options().model_dump(mode="json")
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_objectives_and_what_is_known_of_them() -> None:
    facts = {
        name: (row.takes_backbone, row.needs_parent, row.one_process, row.takes_lora)
        for name, row in OBJECTIVES.items()
    }
    assert facts == {
        "diffusion": (True, False, False, True),
        "autoencoder": (False, False, False, False),
        "contrastive": (False, False, True, False),
        "step_distillation": (True, True, False, False),
        "feature_distillation": (True, True, False, False),
        "layout": (True, True, False, False),
    }
    with pytest.raises(ValueError, match="needs a parent, so it must take a backbone"):
        ObjectiveRow("x", DiffusionOptions, "x:X", needs_parent=True)


def test_the_section_of_another_objective_is_refused_by_name() -> None:
    assert recipe_of("diffusion").options_of(DiffusionOptions).prediction == "flow"
    with pytest.raises(FoundryError, match="'a': objective is 'diffusion', which lacks .* 'contrastive'"):
        recipe_of("diffusion").options_of(ContrastiveOptions)
    with pytest.raises(FoundryError, match="name a recipe of objective 'autoencoder'"):
        recipe_of("contrastive").options_of(AutoencoderOptions)


def test_an_objective_that_there_is_not_is_told_with_all_there_are() -> None:
    with pytest.raises(FoundryError, match="'objective' is 'diffusing'; input should be 'diffusion', 'auto"):
        load_recipe({"name": "a", "objective": "diffusing", "images_total": 8, "learning_rate": 1e-3})


def test_adapters_belong_to_objectives_that_take_them() -> None:
    with pytest.raises(FoundryError, match="under objective 'diffusion'; found parent 'teacher'"):
        recipe_of("step_distillation", lora={})
