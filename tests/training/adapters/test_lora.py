"""Low-rank adapters: where they sit, what trains, that a run resumes bit-equal, and both forms they leave in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training.pretrained_pipelines import (
    FAMILIES,
    SIDE,
    STEPS,
    FineTuning,
    load_pipeline,
    prompts,
    stock_pictures,
)
from training.adapters.adapt import adapt
from training.adapters.lora import LORA_FILE, add_adapters, target_layers
from training.errors import FoundryError, TrainingStopped
from training.loop.checkpoints import load_checkpoint
from training.model_folders.denoiser import Denoiser, sample_with
from training.recipes.adapters import LoraOptions
from training.recipes.files import load_recipe
from training.run import run

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers about null parts
LORA: dict[str, Any] = {"rank": 2, "alpha": 6.0, "targets": ["attention", "feed_forward"], "dropout": 0.1}


def pictures(name: str, folder: Path) -> np.ndarray:
    denoiser = Denoiser.load(folder)
    return sample_with(denoiser, prompts(name), [0, 1], STEPS, 2.0, latent_size=(SIDE, SIDE)).astype(int)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_adapters_leave_fused_and_as_a_file(name: str, tmp_path: Path) -> None:
    tuning = FineTuning(name, tmp_path)
    folder = tuning.prepare(lora=LORA)
    run(folder.path)
    fused = stock_pictures(name, load_pipeline(name, folder.model), prompts(name), 2.0).astype(int)
    assert np.abs(fused - pictures(name, folder.model)).max() <= 1
    assert np.abs(fused - pictures(name, tuning.parent)).max() > 2
    files = [folder.model / "lora" / LORA_FILE, folder.model / "raw" / LORA_FILE]
    averaged, raw = (load_file(path) for path in files)
    assert all(key.startswith(f"{FAMILIES[name].part}.") for key in raw)
    assert any(not torch.equal(averaged[key], raw[key]) for key in raw)
    pipeline: Any = load_pipeline(name, tuning.parent)
    if not hasattr(pipeline, "load_lora_weights"):
        assert name == "pixart"  # its pipeline has no loader; peft loads the file into the transformer
        return
    pipeline.load_lora_weights(folder.model / "lora")
    adapted = stock_pictures(name, pipeline, prompts(name), 2.0).astype(int)
    assert np.abs(adapted - fused).max() <= 1


def test_resume_is_bit_equal_and_checkpoints_hold_what_trains(tmp_path: Path) -> None:
    tuning = FineTuning("sd2", tmp_path)
    settings: dict[str, Any] = {
        "lora": LORA,
        "images_total": 16,
        "optimizer": {"name": "adamw8bit"},
        "base_format": "int8",
    }
    whole, stopped = tuning.prepare("whole", **settings), tuning.prepare("stopped", **settings)
    run(whole.path)
    asked = iter([False, False, True])
    with pytest.raises(TrainingStopped):
        run(stopped.path, lambda: next(asked))
    run(stopped.path)
    first, second = whole.read_done(), stopped.read_done()
    assert first is not None
    assert second is not None
    assert first.model_digest == second.model_digest
    state, _ = load_checkpoint(whole.checkpoints)
    assert state is not None
    saved = state.tensors["model"]
    assert saved
    assert all(".lora_A." in key or ".lora_B." in key for key in saved)
    part = FAMILIES["sd2"].part
    base = load_file(tuning.parent / part / "diffusion_pytorch_model.safetensors")
    child = load_file(whole.model / part / "diffusion_pytorch_model.safetensors")
    changed = {key for key in base if not torch.equal(base[key], child[key])}
    assert changed == {f"{key.partition('.lora_')[0].removesuffix('.base_layer')}.weight" for key in saved}


@pytest.mark.parametrize(
    ("name", "target", "some"),
    [
        ("sd2", "attention", "attn2.to_q"),
        ("sd3", "attention", "attn.add_k_proj"),
        ("flux", "attention", "single_transformer_blocks.0.attn.to_v"),
        ("flux", "feed_forward", "single_transformer_blocks.0.proj_mlp"),
        ("pixart", "feed_forward", "transformer_blocks.0.ff.net.2"),
        ("pixart", "linear", "adaln_single.linear"),
        ("sdxl", "to_out.0", "attn1.to_out.0"),
    ],
)
def test_targets_by_kind_and_by_name(name: str, target: str, some: str) -> None:
    backbone = FAMILIES[name].backbone()
    found = target_layers(backbone, [target])
    linears = [key for key, layer in backbone.named_modules() if isinstance(layer, nn.Linear)]
    assert any(key.endswith(some) for key in found)
    assert (len(found) == len(linears)) == (target == "linear")
    if target == "attention":
        assert not any(".ff" in key or "proj_mlp" in key for key in found)


def test_targets_that_match_nothing_and_wide_ranks_are_refused() -> None:
    backbone = FAMILIES["sd2"].backbone()
    with pytest.raises(
        FoundryError, match=r"'to_query', which matches no linear layer of UNet2D.*to_k, .*to_q"
    ):
        add_adapters(backbone, LoraOptions(targets=("to_query",)), 0)
    with pytest.raises(
        FoundryError, match=r"'lora\.rank' is 64, above the width 16 of layer .*; lower it to 16"
    ):
        add_adapters(backbone, LoraOptions(rank=64), 0)


def test_missing_peft_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(FoundryError, match=r"pip install 't2i-foundry\[lora\]'"):
        add_adapters(FAMILIES["sd2"].backbone(), LoraOptions(rank=2), 0)


@pytest.mark.parametrize("init", ["kaiming", "gaussian"])
def test_adapters_start_as_the_parent_and_are_drawn_from_the_seed(init: str) -> None:
    def adapted(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        backbone = FAMILIES["pixart"].backbone()
        state = torch.get_rng_state()
        add_adapters(backbone, LoraOptions.model_validate({"rank": 2, "init": init}), seed)
        assert torch.equal(torch.get_rng_state(), state)
        return {key: p for key, p in backbone.named_parameters() if p.requires_grad}

    first, again, other = adapted(0), adapted(0), adapted(1)
    assert all(not value.any() for key, value in first.items() if ".lora_B." in key)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora": {}, "parent": None, "backbone": "UNet-tiny"}, "'lora' adapts a parent's weights"),
        ({"base_format": "int8"}, "'base_format' is 'int8', which holds frozen weights alone"),
        ({"lora": {"dropout": 1.0}}, "a dropout of 1 leaves nothing"),
        ({"lora": {"ranks": 4}}, "unknown key 'lora.ranks'; did you mean 'rank'"),
        ({"optimizer": {"name": "adam8"}}, "optimizer.name"),
    ],
)
def test_impossible_recipes_are_refused(change: dict[str, Any], message: str) -> None:
    base = {"name": "a", "parent": "b", "images_total": 8, "learning_rate": 1e-3}
    with pytest.raises(FoundryError, match=message):
        load_recipe({**base, **change})


def test_a_base_that_trains_is_not_offloaded(tmp_path: Path) -> None:
    tuning = FineTuning("sd2", tmp_path)
    folder = tuning.prepare(execution={"offload_base": True})
    with pytest.raises(FoundryError, match="'offload_base' is true, but recipe 'child' trains all weights"):
        run(folder.path)


def test_adapters_are_not_sharded(tmp_path: Path) -> None:
    tuning = FineTuning("sd2", tmp_path)
    folder = tuning.prepare(lora=LORA)
    execution = folder.read_execution().model_copy(update={"world_size": 2, "strategy": "fsdp"})
    with pytest.raises(FoundryError, match="'strategy' is 'fsdp', but recipe 'child' trains adapters"):
        adapt(FAMILIES["sd2"].backbone(), folder.read_spec().recipe, execution)


def test_a_parent_of_another_latent_space_is_refused(tmp_path: Path) -> None:
    tuning = FineTuning("sd2", tmp_path / "one")
    other = FineTuning("sd3", tmp_path / "other")
    folder = tuning.prepare(lora=LORA)
    shutil.rmtree(tuning.parent / "vae")
    shutil.copytree(other.parent / "vae", tuning.parent / "vae")
    with pytest.raises(FoundryError, match="was changed or damaged"):
        run(folder.path)
