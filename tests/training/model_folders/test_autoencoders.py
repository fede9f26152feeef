"""The autoencoder objective: exact centring, resume like any run; the shipped one is whole and good."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusers import AutoencoderKL

from training.digests import folder_digest, folder_size_bytes
from training.errors import FoundryError
from training.model_folders.autoencoders import (
    decode_latents,
    encode_images,
    load_autoencoder,
    probe_autoencoder,
    reconstruction_errors,
)
from training.model_folders.probe import reload_equals_saved
from training.objectives.autoencoder import AutoencoderObjective
from training.packaged_models import SHIPPED_AUTOENCODER, SHIPPED_RECIPES
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.execution import Execution
from training.recipes.files import load_recipe, load_recipes
from training.recipes.specification import TrainingSpecification
from training.run import run
from training.run_folder import RunFolder, prepare
from training.shards import write_image_shards


def pictures(count: int, size: int = 32) -> np.ndarray:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    return coarse.repeat(size // 2, 1).repeat(size // 2, 2)


@pytest.fixture
def autoencoder_run(tmp_path: Path) -> RunFolder:
    samples = pa.table({"sample_id": [str(i) for i in range(16)], "split": ["train"] * 16})
    write_image_shards(tmp_path / "data", samples, pictures(16))
    recipe = {
        "name": "autoencoder",
        "objective": "autoencoder",
        "images_total": 240,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "autoencoder": {
            "block_channels": [8, 8],
            "latent_channels": 4,
            "edge_weight": 0.2,
            "squared_weight": 1,
        },
    }
    spec = TrainingSpecification(
        recipe=load_recipe(recipe), inputs={"dataset": folder_digest(tmp_path / "data")}
    )
    places = {"dataset": str(tmp_path / "data")}
    settings = Execution(device="cpu", log_every_images=40, sample_every_images=240, input_paths=places)
    return prepare(tmp_path / "runs", spec, settings)


def test_it_learns_and_its_latents_are_centred(autoencoder_run: RunFolder) -> None:
    run(autoencoder_run.path)
    losses = autoencoder_run.read_metrics()["loss"].to_pylist()
    assert losses[-1] < 0.85 * losses[0]
    autoencoder = load_autoencoder(autoencoder_run.model)
    latents = encode_images(autoencoder, pictures(16))
    assert latents.shape == (16, 4, 16, 16)
    assert latents.std() == pytest.approx(1, abs=0.02)
    assert np.abs(latents.mean((0, 2, 3))).max() < 0.02
    restored = decode_latents(autoencoder, latents, batch_size=5)
    assert (
        reconstruction_errors(pictures(16), restored).mean()
        < reconstruction_errors(pictures(16), pictures(16)[::-1]).mean()
    )
    assert len(list(autoencoder_run.samples.glob("*.png"))) == 1


def test_centring_changes_no_picture(autoencoder_run: RunFolder) -> None:
    objective = AutoencoderObjective(autoencoder_run.read_spec(), autoencoder_run.read_execution(), "cpu")
    objective.export(autoencoder_run.path / "centred")
    centred = AutoencoderKL.from_pretrained(autoencoder_run.path / "centred", low_cpu_mem_usage=False)
    before, after = probe_autoencoder(objective.module.eval()), probe_autoencoder(centred.eval())
    torch.testing.assert_close(before["images"], after["images"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before["latents"], after["latents"], atol=1e-4)


def test_reconstruction_error_by_hand() -> None:
    black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert reconstruction_errors(black, white)[0] == pytest.approx(4)
    assert reconstruction_errors(white, white)[0] == 0


def test_the_shipped_one_is_small_named_by_digest_and_reloads() -> None:
    autoencoder = load_autoencoder()
    assert folder_size_bytes(SHIPPED_AUTOENCODER) < 4_000_000
    assert {path.name for path in SHIPPED_AUTOENCODER.iterdir()} >= {"model_card.md", "lineage.json"}
    assert reload_equals_saved(SHIPPED_AUTOENCODER, tolerance=1e-3) < 1e-3
    assert encode_images(autoencoder, pictures(2, 64)).shape == (2, 16, 16, 16)
    recipe = load_recipes(SHIPPED_RECIPES)[SHIPPED_AUTOENCODER.name]
    options = recipe.options_of(AutoencoderOptions)
    assert tuple(autoencoder.config.block_out_channels) == options.block_channels


def test_a_flipped_byte_and_a_wrong_folder_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(SHIPPED_AUTOENCODER, copy)
    digest = folder_digest(copy, ("model_card.md", "lineage.json"))
    path = copy / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FoundryError, match="autoencoder has digest"):
        load_autoencoder(copy, digest)
    with pytest.raises(FoundryError, match="no such folder"):
        load_autoencoder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FoundryError, match=r"holds no config\.json"):
        load_autoencoder(tmp_path / "empty")
