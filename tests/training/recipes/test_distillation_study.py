"""A study names its trainings, merges its cells' changes, and refuses contrasts that nothing could tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from training.errors import FoundryError
from training.recipes.distillation_study import by_cell, is_study, load_study, study_recipes
from training.recipes.feature_distillation import FeatureDistillationOptions

GOOD: dict[str, Any] = {
    "recipe": {
        "objective": "feature_distillation",
        "parent": "teacher",
        "images_total": 64,
        "learning_rate": 0.001,
        "feature_distillation": {"output_weight": 0.0, "student": {"mid": False}},
    },
    "seeds": [0, 1, 2],
    "cells": {
        "task": {"feature_distillation": {"features": []}},
        "sa": {"feature_distillation": {"features": [{"kind": "SA"}]}},
        "fast": {"parent": "few-step"},
    },
    "contrasts": [{"factor": "kind of feature", "left": "sa", "right": "task"}],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "distillation_study.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
    return path


def test_every_cell_and_seed_is_a_recipe(tmp_path: Path) -> None:
    study = load_study(written(tmp_path))
    recipes = study_recipes(study)
    assert list(recipes)[:4] == ["study.task.0", "study.sa.0", "study.fast.0", "study.task.1"]
    assert len(recipes) == 9
    assert all(is_study(name) and recipe.name == name for name, recipe in recipes.items())
    assert recipes["study.fast.2"].parent == "few-step"
    assert recipes["study.fast.2"].seed == 2
    options = recipes["study.sa.1"].options_of(FeatureDistillationOptions)
    assert not options.student.mid  # the cell's section is merged, not put in its place
    assert options.output_weight == 0.0
    assert options.features is not None
    assert [feature.kind for feature in options.features] == ["SA"]


def test_cells_are_put_together_as_far_as_they_were_made(tmp_path: Path) -> None:
    study = load_study(written(tmp_path))
    made = {"study.sa.2": 2, "study.sa.0": 0, "study.task.1": 1, "other": 9}
    assert by_cell(study, made) == {"task": [1], "sa": [0, 2]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": [0, 1]}, "'seeds' has 2; at least 3 tell seed noise"),
        ({"seeds": [0, 0, 1]}, "list each once"),
        ({"contrasts": [{"factor": "x", "left": "saa", "right": "task"}]}, "names the cell 'saa'.*'sa'"),
        ({"contrasts": [{"factor": "x", "left": "sa", "right": "sa"}]}, "compares 'sa' with itself"),
        (
            {"cells": {"sa": {"feature_distillation": {"feature": []}}}, "contrasts": []},
            "cell 'sa'.*unknown key.*features",
        ),
        ({"cells": {"a": {"learning_rate": -1}}, "contrasts": []}, "cell 'a'.*learning_rate"),
        ({"cell": {}}, "unknown key 'cell'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FoundryError, match=says):
        load_study(written(tmp_path, **changes))
