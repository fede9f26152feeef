"""Recipes and specifications: one hash for equal meaning, one clear sentence for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training.digests import folder_digest
from training.errors import FoundryError
from training.recipes.dataset import CaptionMix
from training.recipes.execution import Execution
from training.recipes.files import load_recipe, load_recipes
from training.recipes.specification import TrainingSpecification

GOOD: dict[str, Any] = {"name": "a", "backbone": "PixArt-tiny", "images_total": 100, "learning_rate": "3e-4"}
INPUTS = {"dataset": "0" * 64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batchsize": 3}, "unknown key 'batchsize'; did you mean 'batch_size'"),
        (
            {"diffusion": {"predicton": "flow"}},
            "unknown key 'diffusion.predicton'; did you mean 'prediction'",
        ),
        ({"dataset": {"captions": {"max_gen": 2}}}, "did you mean 'max_generated'"),
        ({"zzz": 1}, "known keys: adam_epsilon"),
        ({"batch_size": -3}, "'batch_size' is -3; .*at least 1 and at most 65536"),
        ({"learning_rate": 0}, "'learning_rate' is 0; .*more than 0"),
        ({"name": "Upper"}, "'name' is 'Upper'"),
        ({"name": "a" * 65}, "'name' is"),
        ({"diffusion": {"prediction": "x0"}}, "'flow', 'clean', 'epsilon' or 'v'"),
        ({"warmup_images": 101}, "'warmup_images' is 101, above images_total 100"),
        ({"backbone": None}, "objective 'diffusion' needs backbone"),
        ({"objective": "autoencoder"}, "takes no backbone"),
        ({"autoencoder": {}}, "section 'autoencoder' does not belong to objective 'diffusion'"),
        ({"batch_size": 10, "micro_batches": 3}, "must be its multiple"),
        ({"seed": -1}, "'seed' is -1"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message) as caught:
        load_recipe({**GOOD, **change}, "recipes.yaml")
    assert str(caught.value).startswith("recipes.yaml: ")
    assert "\n" not in str(caught.value)


def test_missing_keys_are_named() -> None:
    with pytest.raises(FoundryError, match="key 'images_total' is missing"):
        load_recipe({"name": "a", "backbone": "x", "learning_rate": 1e-3})


def test_equal_meaning_has_one_hash() -> None:
    short = TrainingSpecification(recipe=load_recipe(GOOD), inputs=INPUTS)
    spelled = {**GOOD, "learning_rate": 0.0003, "diffusion": {"prediction": "flow"}, "objective": "diffusion"}
    long = TrainingSpecification(recipe=load_recipe(dict(reversed(spelled.items()))), inputs=INPUTS)
    assert short.spec_hash == long.spec_hash
    again = TrainingSpecification.model_validate(json.loads(short.canonical_json()))
    assert again == short
    assert again.spec_hash == short.spec_hash


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"diffusion": {"caption_dropout": 0.2}}, {"precision": "bf16"}]
)
def test_every_setting_changes_the_hash(change: dict[str, Any]) -> None:
    hashes = {
        TrainingSpecification(recipe=load_recipe(r), inputs=INPUTS).spec_hash
        for r in (GOOD, {**GOOD, **change})
    }
    other = TrainingSpecification(recipe=load_recipe(GOOD), inputs={"dataset": "1" * 64}).spec_hash
    assert len(hashes | {other}) == 3


def test_the_hash_is_pinned() -> None:
    # A changed default or field changes every run's identity: raise TRAINING_SEMANTICS_VERSION knowingly.
    spec = TrainingSpecification(recipe=load_recipe(GOOD), inputs=INPUTS)
    assert spec.spec_hash == "a2043bb186626bf01929feee655d8ce719e1388f7ed7ca5a1eabc8196f92e00d"


def test_specification_refuses_other_semantics_and_bad_digests() -> None:
    recipe = load_recipe(GOOD)
    with pytest.raises(ValueError, match="make a new run"):
        TrainingSpecification(recipe=recipe, inputs=INPUTS, semantics_version=999)
    with pytest.raises(ValueError, match="String should match pattern"):
        TrainingSpecification(recipe=recipe, inputs={"dataset": "abc"})


def test_recipes_file_merges_defaults_and_extends(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(
        """
        defaults: {images_total: 100, learning_rate: 1.0e-3, dataset: {captions: {max_generated: 3}}}
        recipes:
          small: {backbone: PixArt-tiny, dataset: {captions: {original_probability: 0.25}}}
          small-seed1: {extends: small, seed: 1}
        """
    )
    recipes = load_recipes(path)
    assert list(recipes) == ["small", "small-seed1"]
    assert recipes["small-seed1"].seed == 1
    captions = recipes["small-seed1"].dataset.captions
    assert (captions.original_probability, captions.max_generated) == (0.25, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipes: {a: {extends: b}, b: {extends: a}}", "runs in a circle: a -> b -> a"),
        ("recipes: {a: {extends: c}}", "extends unknown recipe 'c'"),
        ("recipes: {}", "at least one name"),
        ("recipe: {}", "unknown key 'recipe'"),
        ("- a", "found list"),
        ("a: [", "not valid YAML"),
        ("recipes: {a: 3}", "recipe 'a': found 3"),
        ("recipes: {a: {batchsize: 3}}", "recipe 'a': .*did you mean 'batch_size'"),
    ],
)
def test_broken_recipe_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(text)
    with pytest.raises(FoundryError, match=message):
        load_recipes(path)


def test_missing_recipe_file(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"none\.yaml: cannot be read"):
        load_recipes(tmp_path / "none.yaml")


def test_execution_is_outside_the_hash_and_checked() -> None:
    assert "threads" not in TrainingSpecification(recipe=load_recipe(GOOD), inputs=INPUTS).canonical_json()
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Execution(threads=0)


def test_light_modules_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, training.recipes.specification, training.run_folder, training.errors, training.digests;"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'diffusers', 'dagster', 'ray') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_folder_digest_counts_content_and_names_only(tmp_path: Path) -> None:
    for name, content in {"one/a.txt": "x", "one/b/c.txt": "y", "two/b/c.txt": "y", "two/a.txt": "x"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    digest = folder_digest(tmp_path / "one")
    assert digest == folder_digest(tmp_path / "two")
    (tmp_path / "two/model_card.md").write_text("card")
    assert digest != folder_digest(tmp_path / "two")
    assert digest == folder_digest(tmp_path / "two", ["model_card.md"])
    (tmp_path / "two/a.txt").write_text("X")
    assert digest != folder_digest(tmp_path / "two", ["model_card.md"])
    with pytest.raises(FoundryError, match="no such folder"):
        folder_digest(tmp_path / "three")


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        ("paper", ("paper", 0.5, 5)),
        ("top-1", ("top-1", 0.5, 1)),
        ("original", ("original", 1.0, 0)),
        ("recaptioned", ("recaptioned", 0.0, 5)),
        ({"original_probability": 0.25}, ("custom", 0.25, 5)),
        ({"name": "paper", "max_generated": 5}, ("paper", 0.5, 5)),
        ({}, ("paper", 0.5, 5)),
    ],
)
def test_a_recipe_names_its_caption_mix(mix: object, expected: tuple[str, float, int]) -> None:
    captions = CaptionMix.model_validate(mix)
    assert (captions.name, captions.original_probability, captions.max_generated) == expected
    assert CaptionMix.model_validate(captions.model_dump()) == captions


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ("papr", "no caption mix 'papr'; allowed are paper, top-1, original, recaptioned, custom"),
        ({"name": "paper", "max_generated": 1}, "the mix 'paper' has max_generated 5, found 1"),
    ],
)
def test_an_impossible_caption_mix_is_refused(mix: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptionMix.model_validate(mix)
