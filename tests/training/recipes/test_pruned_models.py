"""What a person may write of pruning, and the sentences that wrong recipes get."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from training.errors import FoundryError
from training.recipes.pruned_models import (
    PrunedRecipe,
    ScoringRecipe,
    is_ablation,
    load_ablation,
    load_pruned,
    load_scorings,
)
from training.recipes.pruning import PRESETS
from training.recipes.validation import validate

SCORES = """
defaults: {pruning: {prompts: 4}}
recipes:
  learned: {parent: teacher, pruning: {beta: 0.1}}
  random: {parent: teacher, method: random, kinds: [ffn]}
"""


def scorings(folder: Path) -> dict[str, ScoringRecipe]:
    path = folder / "unit_scores.yaml"
    path.write_text(SCORES)
    return load_scorings(path)


def written(folder: Path, text: str, name: str = "pruned.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_defaults_and_own_settings_are_laid_over_each_other(tmp_path: Path) -> None:
    found = scorings(tmp_path)
    assert found["learned"].pruning.prompts == 4
    assert found["learned"].pruning.beta == 0.1
    assert (found["random"].method, found["random"].kinds) == ("random", ("ffn",))
    assert load_scorings(tmp_path / "none.yaml") == {}


def test_a_preset_is_resolved_and_own_settings_win() -> None:
    recipe = validate(
        ScoringRecipe,
        {
            "name": "flux",
            "parent": "teacher",
            "preset": "FLUX.1-schnell",
            "kinds": ["heads", "ffn", "norm"],
            "pruning": {"steps": 3},
        },
        "recipe",
    )
    assert recipe.pruning.delta == PRESETS["FLUX.1-schnell"]["delta"]
    assert recipe.pruning.steps == 3
    assert ScoringRecipe.model_validate(recipe.settings()) == recipe


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"method": "hessian"}, "method"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["heads", "heads"]}, "name each once"),
        ({"kinds": ["heads"]}, "'ffn_learning_rate'"),
        ({"kinds": ["heads", "ffn", "norm"]}, "'norm_learning_rate'"),
        ({"preset": "SDXXL"}, "did you mean 'SDXL'"),
        ({"pruning": {"betta": 1}}, "did you mean 'beta'"),
        ({"pruning": {"zeta": 0.5}}, "zeta"),
    ],
)
def test_a_wrong_scoring_is_told(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(FoundryError, match=sentence):
        validate(ScoringRecipe, {"name": "a", "parent": "b", **settings}, "recipe")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("{scores: learned, sparsity: 1.0}", "less than 1"),
        ("{scores: learned, sparsity: -0.1}", "greater than or equal to 0"),
        ("{scores: learned}", "one of 'sparsity' and 'thresholds'"),
        ("{scores: learned, sparsity: 0.1, thresholds: {heads: 0}}", "one of 'sparsity' and 'thresholds'"),
        ("{scores: learned, thresholds: {heads: 0, ffn: 0}, scope: layer}", "leave 'scope'"),
        ("{scores: lerned, sparsity: 0.1}", "recipes of unit_scores.yaml are learned, random"),
        ("{scores: random, sparsity: {heads: 0.1}}", "scores ffn"),
        ("{scores: learned, sparsity: {heads: 0.1}}", "give a number for each"),
        ("{scores: learned, sparsity: 0.1, scope: everywhere}", "scope"),
    ],
)
def test_a_wrong_cut_is_told_with_file_and_recipe(tmp_path: Path, settings: str, sentence: str) -> None:
    path = written(tmp_path, f"recipes: {{cut: {settings}}}")
    with pytest.raises(FoundryError, match=sentence) as raised:
        load_pruned(path, scorings(tmp_path))
    assert str(path) in str(raised.value)
    assert "'cut'" in str(raised.value)


def test_sparsities_are_the_decimals_that_were_written(tmp_path: Path) -> None:
    text = "recipes: {one: {scores: learned, sparsity: 0.29}, two: {scores: learned, sparsity: {heads: 0.1, ffn: 0.3}}}"
    found = load_pruned(written(tmp_path, text), scorings(tmp_path))
    assert found["one"].sparsity_of("heads") == found["one"].sparsity_of("ffn") == Decimal("0.29")
    assert found["two"].sparsity_of("ffn") == Decimal("0.3")
    assert found["two"].largest_sparsity == 0.3
    assert PrunedRecipe.model_validate(found["two"].settings()) == found["two"]


def test_an_ablation_varies_one_setting_at_a_time(tmp_path: Path) -> None:
    known = scorings(tmp_path)
    path = written(tmp_path, "{base: learned, vary: {beta: [0.0, 5], zeta: [1.5]}, sparsity: 0.3}", "a.yaml")
    varied, cuts = load_ablation(path, known)
    assert list(varied) == list(cuts) == ["ablation.beta.0", "ablation.beta.5", "ablation.zeta.1.5"]
    base = known["learned"].pruning
    assert varied["ablation.beta.5"].pruning == base.model_copy(update={"beta": 5.0})
    assert varied["ablation.zeta.1.5"].pruning == base.model_copy(update={"zeta": 1.5})
    assert all(is_ablation(name) for name in varied)
    assert not is_ablation("learned")
    assert {cut.sparsity for cut in cuts.values()} == {Decimal("0.3")}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{base: other, vary: {beta: [1]}}", "'base' is 'other'"),
        ("{base: learned, vary: {betta: [1]}}", "did you mean 'beta'"),
        ("{base: learned, vary: {gamma: [0.5]}}", "gamma"),
        ("{base: learned, vary: {}}", "vary"),
    ],
)
def test_a_wrong_ablation_is_told(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(FoundryError, match=sentence):
        load_ablation(written(tmp_path, text, "a.yaml"), scorings(tmp_path))
