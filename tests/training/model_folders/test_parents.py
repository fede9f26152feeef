"""A recipe's parent: the child starts from its weights, and a parent that does not fit is refused before work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import RunMaker
from training.errors import FoundryError
from training.model_folders.autoencoders import build_autoencoder
from training.model_folders.parents import first_difference, load_parent
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run import run

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def family(runs: RunMaker) -> RunMaker:
    """Runs whose recipes may name the parent ``grown``, a trained PixArt-tiny."""
    folder = runs.prepare("parents", name="grown", images_total=16, seed=3)
    run(folder.path)
    runs.parent = folder.model
    return runs


def child(**recipe: Any) -> dict[str, Any]:
    return {"name": "child", "parent": "grown", "backbone": None, "images_total": 4, **recipe}


def test_the_child_starts_from_its_parents_weights(family: RunMaker) -> None:
    assert family.parent is not None
    start = load_file(family.parent / WEIGHTS)
    still = family.prepare("still", **child(learning_rate=1e-12, weight_decay=0.0))
    run(still.path)
    for name, value in load_file(still.model / WEIGHTS).items():
        torch.testing.assert_close(value, start[name], atol=1e-9, rtol=0)
    named = family.spec(**child(backbone="PixArt-tiny"))
    assert load_parent(named, family.execution()).noising.prediction == "flow"


def test_a_child_of_changed_weights_is_another_run(family: RunMaker, tmp_path: Path) -> None:
    first = family.spec(**child())
    family.parent = Path(shutil.copytree(str(family.parent), tmp_path / "changed"))
    (family.parent / "extra").write_text("x")
    assert family.spec(**child()).spec_hash != first.spec_hash


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"backbone": "PixArt-demo-h48-d2"},
            r"'backbone' is 'PixArt-demo-h48-d2' with attention_head_dim 24, its parent 'grown' has .* 16",
        ),
        ({"backbone": "UNet-tiny"}, r"'UNet-tiny' with .*its parent 'grown' has"),
        (
            {"diffusion": {"prediction": "v"}},
            r"'diffusion' has prediction 'v', its parent 'grown' has 'flow'",
        ),
    ],
)
def test_a_parent_that_does_not_fit_is_refused(
    family: RunMaker, recipe: dict[str, Any], message: str
) -> None:
    folder = family.prepare(**child(**recipe))
    with pytest.raises(FoundryError, match=message):
        run(folder.path)
    assert not list(folder.checkpoints.iterdir())


def test_a_parent_of_another_latent_space_is_refused(family: RunMaker, tmp_path: Path) -> None:
    family.parent = Path(shutil.copytree(str(family.parent), tmp_path / "elsewhere"))
    other = build_autoencoder(AutoencoderOptions(block_channels=(8, 8, 8, 8)), 64, seed=1)
    other.save_pretrained(family.parent / "vae")
    with pytest.raises(
        FoundryError, match=r"parent 'grown' was made in the latent space of another autoencoder"
    ):
        run(family.prepare(**child()).path)
    shutil.rmtree(family.parent / "vae")
    with pytest.raises(FoundryError, match=r"nobody can tell the latent space of parent 'grown'"):
        run(family.prepare(**child()).path)


def test_parent_and_inputs_go_together(runs: RunMaker) -> None:
    inputs = runs.spec().inputs
    with pytest.raises(ValueError, match=r"has parent 'grown'; 'inputs\.parent': give the digest"):
        TrainingSpecification(recipe=runs.spec().recipe.model_copy(update={"parent": "grown"}), inputs=inputs)
    with pytest.raises(ValueError, match=r"has parent None; 'inputs\.parent': drop the input"):
        TrainingSpecification(recipe=runs.spec().recipe, inputs={**inputs, "parent": "0" * 64})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "step_distillation"}, "objective 'step_distillation' needs backbone or parent"),
        (
            {"objective": "step_distillation", "backbone": "PixArt-tiny"},
            "needs parent, the model that it starts from",
        ),
        ({"objective": "autoencoder", "parent": "grown"}, "'parent' is 'grown'; .* takes no parent"),
        (
            {"objective": "step_distillation", "parent": "grown", "diffusion": {}},
            "'diffusion' does not belong to objective 'step_distillation'",
        ),
        (
            {"objective": "step_distillation", "parent": "g", "step_distillation": {"guidance_max": 2}},
            "'guidance_min' is 3.0, above guidance_max 2.0",
        ),
    ],
)
def test_recipes_that_cannot_start_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        load_recipe({"name": "a", "images_total": 10, "learning_rate": 1e-3, **change})


def test_first_difference() -> None:
    assert first_difference({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 0}) == ("b", 2, 3)
    assert first_difference({"a": 1}, {"a": 1}) is None


def test_a_parent_of_another_text_encoder_is_refused_before_work(family: RunMaker) -> None:
    spec, execution = family.spec(**child()), family.execution()
    assert family.parent is not None
    lineage = family.parent / "lineage.json"
    for digests, fits in (([spec.inputs["text_encoder"]], True), (["f" * 64], False), ([], True)):
        lineage.write_text(json.dumps([{"version": "text_encoder", "digest": digest} for digest in digests]))
        if fits:
            load_parent(spec, execution)
            continue
        with pytest.raises(FoundryError, match="parent 'grown' was made with another text encoder .*f{12}"):
            load_parent(spec, execution)
    lineage.write_text("{")
    with pytest.raises(FoundryError, match="is no lineage"):
        load_parent(spec, execution)
