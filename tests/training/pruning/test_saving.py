"""Pruned backbones on disk and in stock pipelines: no pickle, the same answers, the same pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from tests.training.pretrained_pipelines import (
    FAMILIES as PIPELINES,
)
from tests.training.pretrained_pipelines import (
    STEPS,
    absent_parts,
    load_pipeline,
    prompts,
    save_pipeline,
    stock_pictures,
)
from tests.training.pruning.families import (
    FAMILIES,
    answer,
    as_masks,
    groups_of,
    kinds_of,
    model_of,
    random_keep,
)
from training.errors import FoundryError
from training.model_folders.denoiser import Denoiser, sample_with
from training.pruning.masking import masked
from training.pruning.removal import prune
from training.pruning.saving import PrunedPixArtTransformer2DModel, pruned_class
from training.pruning.scores import read_scores, write_scores


def mixed_keep(backbone: Any) -> dict[Any, torch.Tensor]:
    keep = random_keep(groups_of(backbone))
    for key in list(keep)[::4]:
        keep[key].zero_()
    return keep


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lean", [False, True])
def test_a_saved_backbone_is_read_back(name: str, lean: bool, tmp_path: Path) -> None:
    backbone = model_of(name)
    pruned = prune(backbone, mixed_keep(backbone))
    pruned.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["_class_name"] == f"Pruned{type(backbone).__name__}" == type(pruned).__name__
    read = pruned_class(backbone).from_pretrained(tmp_path, low_cpu_mem_usage=lean, use_safetensors=True)
    assert read.config["kept_units"] == pruned.config["kept_units"] != {}
    own = read.state_dict()
    assert own.keys() == pruned.state_dict().keys()
    assert all(torch.equal(value, own[key]) for key, value in pruned.state_dict().items())
    with torch.no_grad():
        assert torch.equal(answer(read), answer(pruned))


def test_half_precision_is_read_back(tmp_path: Path) -> None:
    backbone = model_of("flux")
    prune(backbone, mixed_keep(backbone)).save_pretrained(tmp_path)
    read = pruned_class(backbone).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    places = {key: value.dtype for key, value in read.state_dict().items() if key.endswith(".places")}
    assert places
    assert set(places.values()) == {torch.int64}
    assert {parameter.dtype for parameter in read.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", PIPELINES)
def test_stock_pipelines_sample_with_it(name: str, tmp_path: Path) -> None:
    pipeline = load_pipeline(name, save_pipeline(name, tmp_path / "whole"))
    part = PIPELINES[name].part
    backbone = getattr(pipeline, part)
    keep = mixed_keep(backbone)
    guidance = 1.0 if name == "flux" else 3.0
    whole = stock_pictures(name, pipeline, prompts(name), guidance)
    with masked(backbone, as_masks(keep), kinds_of(name == "flux")):
        wanted = stock_pictures(name, pipeline, prompts(name), guidance)
    setattr(pipeline, part, prune(backbone, keep))
    found = stock_pictures(name, pipeline, prompts(name), guidance)
    assert (
        np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    )  # a rounding apart before it is quantised
    assert np.abs(found.astype(int) - whole.astype(int)).max() > 1


def test_a_whole_pipeline_is_saved_with_it(tmp_path: Path) -> None:
    pipeline = load_pipeline("pixart", save_pipeline("pixart", tmp_path / "whole"))
    pipeline.register_modules(transformer=prune(pipeline.transformer, mixed_keep(pipeline.transformer)))
    pictures = stock_pictures("pixart", pipeline, prompts("pixart"), 3.0)
    pipeline.save_pretrained(tmp_path / "pruned")
    index = json.loads((tmp_path / "pruned" / "model_index.json").read_text())
    assert index["transformer"] == ["training.pruning.saving", "PrunedPixArtTransformer2DModel"]
    read: Any = DiffusionPipeline.from_pretrained(tmp_path / "pruned", **absent_parts(PIPELINES["pixart"]))
    read.set_progress_bar_config(disable=True)
    assert type(read.transformer) is PrunedPixArtTransformer2DModel
    assert np.array_equal(stock_pictures("pixart", read, prompts("pixart"), 3.0), pictures)
    ours = Denoiser.load(tmp_path / "pruned")
    assert type(ours.backbone) is PrunedPixArtTransformer2DModel
    assert np.array_equal(sample_with(ours, prompts("pixart"), [0, 1], STEPS, 3.0), pictures)


def test_a_configuration_that_does_not_fit_is_told() -> None:
    config = {**model_of("pixart").config}
    block = "transformer_blocks.0"
    for units, says in (
        (
            {"heads": {f"{block}.attn1": 3}},
            r"'heads/transformer_blocks.0.attn1': 3 found, allowed are 0 to 2",
        ),
        ({"ffn": {f"{block}.fff": 1}}, "fff': 1 found, no such module"),
        ({"blocks": {block: 1}}, "kind 'blocks' found, allowed are heads, ffn, norm"),
    ):
        with pytest.raises(FoundryError, match=says):
            PrunedPixArtTransformer2DModel.from_config({**config, "kept_units": units})


def test_scores_on_disk(tmp_path: Path) -> None:
    scores: dict[Any, torch.Tensor] = {
        ("heads", "transformer_blocks.0.attn1"): torch.randn(2, dtype=torch.bfloat16),
        ("ffn", "transformer_blocks.0.ff"): torch.randn(4),
    }
    path = tmp_path / "scores.safetensors"
    write_scores(path, scores)
    read = read_scores(path)
    assert read.keys() == scores.keys()
    assert all(torch.equal(value, scores[key]) for key, value in read.items())
    with pytest.raises(FoundryError, match=r"other.safetensors: there is no such file of scores"):
        read_scores(tmp_path / "other.safetensors")
    path.write_text("no scores")
    with pytest.raises(FoundryError, match="cannot be read as safetensors"):
        read_scores(path)
    save_file({"blocks/transformer_blocks.0": torch.zeros(1)}, path)
    with pytest.raises(
        FoundryError, match="tensor 'blocks/transformer_blocks.0' found, names are 'kind/name'"
    ):
        read_scores(path)
