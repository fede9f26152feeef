"""Pipelines of the stock classes load, sample as they do in diffusers, are fine-tuned, and come out as such pipelines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.pretrained_pipelines import (
    FAMILIES,
    SIDE,
    STEPS,
    TEXT,
    FineTuning,
    load_pipeline,
    prompts,
    save_pipeline,
    stock_pictures,
)
from tests.training.text_encoders.checkpoints import clip
from training.backbones import model_parameters
from training.diffusion.noise_process import Noising
from training.diffusion.schedulers import noising_of
from training.errors import FoundryError
from training.model_folders.autoencoders import encode_images
from training.model_folders.card import usage_code
from training.model_folders.denoiser import Denoiser, sample_with
from training.model_folders.export import export_pipeline
from training.model_folders.pretrained import check_safetensors, fine_tuning_inputs, locate_pretrained
from training.model_folders.probe import reload_equals_saved
from training.run import run

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers about null parts
WEIGHTS = "diffusion_pytorch_model.safetensors"


def our_pictures(name: str, folder: Path, guidance: float = 2.0) -> np.ndarray:
    denoiser = Denoiser.load(folder)
    return sample_with(denoiser, prompts(name), [0, 1], STEPS, guidance, latent_size=(SIDE, SIDE))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_full_fine_tuning_gives_a_stock_pipeline(name: str, tmp_path: Path) -> None:
    tuning = FineTuning(name, tmp_path)
    before = our_pictures(name, tuning.parent)
    stock = stock_pictures(name, load_pipeline(name, tuning.parent), prompts(name), 2.0)
    assert np.abs(stock.astype(int) - before.astype(int)).max() <= 1
    assert stock.std() > 1
    folder = tuning.prepare(execution={"sample_every_images": 8, "sample_count": 2, "sample_steps": 2})
    run(folder.path)
    after = our_pictures(name, folder.model)
    stock = stock_pictures(name, load_pipeline(name, folder.model), prompts(name), 2.0)
    assert np.abs(stock.astype(int) - after.astype(int)).max() <= 1
    assert np.abs(after.astype(int) - before.astype(int)).max() > 2
    assert reload_equals_saved(folder.model) < 1e-5
    assert_keeps(tuning.parent, folder.model)
    assert list(folder.samples.glob("*.png"))
    part = FAMILIES[name].part
    averaged, raw = load_file(folder.model / part / WEIGHTS), load_file(folder.model / "raw" / WEIGHTS)
    assert any(not torch.equal(averaged[key], raw[key]) for key in raw)
    done = folder.read_done()
    assert done is not None
    assert done.num_parameters == model_parameters(Denoiser.load(folder.model).backbone)


def assert_keeps(parent: Path, child: Path) -> None:
    """Scheduler, autoencoder and class stay; nothing pickled lies in the folder."""
    for name in ("scheduler/scheduler_config.json", "vae/config.json", f"vae/{WEIGHTS}"):
        assert (child / name).read_bytes() == (parent / name).read_bytes()
    indexes = [json.loads((folder / "model_index.json").read_text()) for folder in (parent, child)]
    assert indexes[0] == indexes[1]
    found = {path.suffix for path in child.rglob("*") if path.is_file()}
    assert found == {".json", ".safetensors"}


@pytest.mark.parametrize(("name", "kept"), [("sdxl", {"mid": False}), ("sd3", {"blocks": 1})])
def test_a_stock_pipeline_teaches_a_smaller_one_of_its_class(
    name: str, kept: dict[str, Any], tmp_path: Path
) -> None:
    tuning = FineTuning(name, tmp_path)
    path = tuning.parent / "scheduler/scheduler_config.json"
    config = json.loads(path.read_text())
    if name == "sdxl":  # as the few-step folders have it; it stays
        path.write_text(json.dumps({**config, "timestep_spacing": "trailing"}))
    folder = tuning.prepare(
        objective="feature_distillation", diffusion=None, feature_distillation={"student": kept}
    )
    run(folder.path)
    stock = stock_pictures(name, load_pipeline(name, folder.model), prompts(name), 2.0)
    assert np.abs(stock.astype(int) - our_pictures(name, folder.model).astype(int)).max() <= 1
    assert_keeps(tuning.parent, folder.model)
    teacher, student = (model_parameters(Denoiser.load(at).backbone) for at in (tuning.parent, folder.model))
    assert student < teacher
    for row in folder.read_metrics().to_pylist():
        assert min(row["loss_task"], row["loss_output"], row["loss_feature"]) > 0


def test_latents_are_shifted_as_the_pipeline_shifts_them(tmp_path: Path) -> None:
    vae = load_pipeline("flux", save_pipeline("flux", tmp_path)).vae
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
    with torch.no_grad():
        expected = (vae.encode(pixels).latent_dist.mean - 0.1159) * 0.7
    np.testing.assert_allclose(encode_images(vae, images), expected.numpy(), atol=1e-5)


def test_a_folder_is_taken_as_it_is_and_pickles_are_refused(tmp_path: Path) -> None:
    folder = save_pipeline("sd2", tmp_path / "sd2")
    assert locate_pretrained(str(folder)) == folder
    with pytest.raises(FoundryError, match=r"vae: holds no model_index\.json; give the folder"):
        locate_pretrained(str(folder / "vae"))
    with pytest.raises(FoundryError, match=r"no-such: holds no model_index\.json"):
        locate_pretrained(str(tmp_path / "no-such"))
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(FoundryError, match=r"diffusion_pytorch_model\.bin: pickled weights are not read"):
        Denoiser.load(folder)
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(FoundryError, match=r"unet: holds no \.safetensors"):
        check_safetensors(folder / "unet")


def test_other_backbones_are_refused(tmp_path: Path) -> None:
    folder = save_pipeline("sd2", tmp_path)
    path = folder / "unet" / "config.json"
    path.write_text(path.read_text().replace("UNet2DConditionModel", "UNetMotionModel"))
    with pytest.raises(FoundryError, match=r"class 'UNetMotionModel' is no backbone that we know"):
        Denoiser.load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"beta_schedule": "linear", "beta_end": 0.03},
            r"betas run from 0\.0001 to 0\.03; 'linear' is known",
        ),
        ({"beta_schedule": "sigmoid"}, r"beta_schedule 'sigmoid'; known are"),
    ],
)
def test_unknown_noise_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        noising_of(config)


def test_data_of_another_text_encoder_is_refused(tmp_path: Path) -> None:
    tuning = FineTuning("sd3", tmp_path / "sd3")
    other = FineTuning("sd2", tmp_path / "sd2")
    wrong = other.prepare(diffusion={"prediction": "flow"})
    with pytest.raises(FoundryError, match=r"'diffusion' has prediction 'flow', its parent .* has 'v'"):
        run(wrong.path)
    with pytest.raises(FoundryError, match=r"write the training shards with the pipeline's own autoencoder"):
        fine_tuning_inputs(tuning.parent, other.shards)
    named = tuning.prepare(backbone="SD3-tiny")
    with pytest.raises(FoundryError, match=r"'backbone' is 'SD3-tiny' with .*, its parent 'somebody-s' has"):
        run(named.path)


def test_the_card_s_call_takes_the_parent_s_text_encoder(tmp_path: Path) -> None:
    import transformers
    from diffusers import StableDiffusionPipeline

    bare = load_pipeline("sd2", save_pipeline("sd2", tmp_path / "bare"))
    words = transformers.AutoTokenizer.from_pretrained(clip(tmp_path / "words"))
    words.model_max_length = 16
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=TEXT, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    parts = {name: part for name, part in bare.components.items() if part is not None}
    parent = StableDiffusionPipeline(
        **{**dict.fromkeys(bare.components), **parts, "text_encoder": transformers.CLIPTextModel(config), "tokenizer": words},
        requires_safety_checker=False,
    )  # fmt: skip
    parent.save_pretrained(tmp_path / "parent")
    folder = tmp_path / "child"
    export_pipeline(folder, bare.unet, tmp_path / "parent" / "vae", Noising("v"), parent=tmp_path / "parent")
    names: dict[str, Any] = {"folder": folder, "parent_folder": tmp_path / "parent"}
    exec(compile(usage_code(folder), "model_card", "exec"), names)
    expected = parent(
        "a red apple", num_inference_steps=20, guidance_scale=3.0, generator=torch.Generator().manual_seed(0)
    )
    assert np.array_equal(np.asarray(names["images"][0]), np.asarray(expected.images[0]))


def test_true_guidance_of_flux_is_its_pipeline_s(tmp_path: Path) -> None:
    folder, texts = save_pipeline("flux", tmp_path), prompts("flux")
    null = texts.null
    assert null is not None
    pipeline: Any = load_pipeline("flux", folder)
    stock = pipeline(
        prompt_embeds=texts.states,
        pooled_prompt_embeds=texts.pooled,
        negative_prompt_embeds=null.states.expand(2, -1, -1),
        negative_pooled_prompt_embeds=null.pooled.expand(2, -1),  # type: ignore[union-attr]
        true_cfg_scale=4.0,
        num_inference_steps=STEPS,
        guidance_scale=2.0,
        height=8 * SIDE,
        width=8 * SIDE,
        generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
    ).images
    denoiser, size = Denoiser.load(folder), (SIDE, SIDE)
    ours = sample_with(denoiser, texts, [0, 1], STEPS, 2.0, latent_size=size, true_guidance=4.0)
    expected = np.stack([np.asarray(image) for image in stock]).astype(int)
    assert np.abs(expected - ours.astype(int)).max() <= 1
    assert np.abs(our_pictures("flux", folder).astype(int) - ours.astype(int)).max() > 2


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_weights_that_a_folder_lacks_are_an_error_by_name(part: str, tmp_path: Path) -> None:
    folder = save_pipeline("pixart", tmp_path)
    path = folder / part / WEIGHTS
    weights = load_file(path)
    name = sorted(weights)[-1]
    save_file({key: value for key, value in weights.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(FoundryError, match=f"lacks the weight '{re.escape(name)}'"):
        Denoiser.load(folder)
    save_file({**weights, "spare.weight": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(FoundryError, match=r"holds the weight 'spare\.weight'"):
        Denoiser.load(folder)
    save_file(weights, path, metadata={"format": "pt"})
    Denoiser.load(folder)
