"""A stock encoder that is exactly linear: held against the map itself, through training and in a saved folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from training.digests import folder_digest
from training.errors import FoundryError
from training.model_folders.autoencoders import build_autoencoder, encode_images, load_autoencoder
from training.model_folders.linear_encoders import LinearMap, principal_components, set_linear_encoder
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run import run
from training.run_folder import prepare
from training.shards import write_image_shards


def drawings(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = (
        random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8).repeat(size // 4, 1).repeat(size // 4, 2)
    )
    fine = random.integers(-9, 10, coarse.shape)
    return np.clip(coarse.astype(int) + fine, 0, 255).astype(np.uint8)


def tensors(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


@pytest.mark.parametrize("block_channels", [(12, 14), (13, 48, 20), (12, 50, 192, 26)])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stock_encoder_says_what_the_map_says(block_channels: tuple[int, ...], layers: int) -> None:
    options = AutoencoderOptions(
        block_channels=block_channels,
        layers_per_block=layers,
        latent_channels=6,
        encoder="principal_components",
    )
    images = tensors(drawings(24))
    side = 2 ** (len(block_channels) - 1)
    linear = principal_components(images, side, 6, smallest_spread=0.1)
    autoencoder = build_autoencoder(options, 16, seed=0)
    set_linear_encoder(autoencoder, linear, noise=0.05)
    with torch.no_grad():
        posterior = autoencoder.encode(images).latent_dist
    torch.testing.assert_close(posterior.mean, linear(images), atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, 0.05))


def test_components_are_ordered_scaled_and_give_the_picture_back() -> None:
    images = tensors(drawings(200))
    linear = principal_components(images, 4, 48, smallest_spread=0.0)
    latents = linear(images).permute(0, 2, 3, 1).flatten(0, 2).double()
    torch.testing.assert_close(latents.mean(0), torch.zeros(48, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        latents.T @ latents / len(latents), torch.eye(48, dtype=torch.float64), atol=2e-2, rtol=0
    )
    assert bool((linear.weight.norm(dim=1).diff() > -1e-5).all()), (
        "the more a component varies, the less it is scaled"
    )
    values = torch.linalg.solve(
        linear.weight, (linear(images) - linear.bias[:, None, None]).movedim(1, -1)[..., None]
    )
    restored = functional.pixel_shuffle(values[..., 0].movedim(-1, 1), 4)
    torch.testing.assert_close(restored, images, atol=1e-2, rtol=0)


def test_faint_components_are_not_blown_up() -> None:
    images = tensors(drawings(200))
    plain, held = (principal_components(images, 4, 48, share) for share in (0.0, 0.5))
    spread = held(images).std((0, 2, 3))
    assert spread[0] == pytest.approx(1, abs=0.02)
    assert spread[-1] < 0.2
    assert plain(images).std((0, 2, 3))[-1] == pytest.approx(1, abs=0.05)


def test_the_same_pictures_give_the_same_signs() -> None:
    images = tensors(drawings(50))
    first, again = (principal_components(part, 4, 8, 0.1) for part in (images, images.flip(0)))
    torch.testing.assert_close(first.weight, again.weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("block_channels", "latent_channels", "message"),
    [
        ((8, 48, 64), 16, r"block_channels\[0\] is 8; .* at least 12, 48 "),
        ((12, 48, 32), 16, r"block_channels\[2\] is 32; .* at least 34 in the last"),
        ((12, 64), 16, "latent_channels is 16; a patch has 12 values"),
        ((12, 48, 48), 16, "must be of another width"),
    ],
)
def test_encoders_that_cannot_hold_the_map_are_refused(
    block_channels: tuple[int, ...], latent_channels: int, message: str
) -> None:
    options = AutoencoderOptions(block_channels=block_channels, latent_channels=latent_channels)
    side = 2 ** (len(block_channels) - 1)
    linear = LinearMap(torch.zeros(latent_channels, 3 * side**2), torch.zeros(latent_channels))
    with pytest.raises(FoundryError, match=message):
        set_linear_encoder(build_autoencoder(options, 16, 0), linear, 0.1)


def test_options_of_components_belong_to_them() -> None:
    with pytest.raises(ValueError, match="'latent_noise' is an option of encoder 'principal_components'"):
        AutoencoderOptions(latent_noise=0.1)
    assert "encoder" not in AutoencoderOptions().model_dump()
    whole = AutoencoderOptions(encoder="principal_components", latent_noise=0.2)
    assert AutoencoderOptions.model_validate(whole.model_dump()) == whole


def test_the_decoder_alone_learns_and_the_folder_holds_the_map(tmp_path: Path) -> None:
    images = drawings(32)
    samples = pa.table({"sample_id": [str(i) for i in range(32)], "split": ["train"] * 32})
    write_image_shards(tmp_path / "data", samples, images)
    recipe = {
        "name": "linear",
        "objective": "autoencoder",
        "images_total": 640,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "autoencoder": {
            "block_channels": [12, 48, 20],
            "latent_channels": 8,
            "encoder": "principal_components",
            "squared_weight": 1,
        },
    }
    spec = TrainingSpecification(
        recipe=load_recipe(recipe), inputs={"dataset": folder_digest(tmp_path / "data")}
    )
    places = {"dataset": str(tmp_path / "data")}
    folder = prepare(
        tmp_path / "runs", spec, Execution(device="cpu", log_every_images=80, input_paths=places)
    )
    run(folder.path)
    losses = folder.read_metrics()["loss"].to_pylist()
    assert losses[-1] < 0.8 * losses[0]
    autoencoder = load_autoencoder(folder.model)
    latents = encode_images(autoencoder, images)
    linear = principal_components(tensors(images), 4, 8, 0.12)
    told = linear(tensors(images)).numpy()
    np.testing.assert_allclose(latents / autoencoder.config.scaling_factor, told, atol=5e-3)
