"""Autoencoders by folder and digest: pictures to scaled latents and back, and what is lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Float32, UInt8
from safetensors.torch import save_file
from torch import Tensor

from training.diffusion.latent_space import scaled
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.errors import FoundryError
from training.model_folders.denoiser import decode
from training.packaged_models import SHIPPED_AUTOENCODER, SHIPPED_AUTOENCODER_DIGEST
from training.recipes.autoencoder import AutoencoderOptions
from training.run_folder import PROBE

INITIAL_LOG_VARIANCE = -5.0


def load_autoencoder(
    folder: Path = SHIPPED_AUTOENCODER, digest: str | None = None, device: str = "cpu"
) -> Any:
    """Load an AutoencoderKL folder, its content digest verified first; the shipped one has its digest in the code.

    Raises FoundryError when the folder is missing, damaged or not the one asked for.
    """
    expected = digest or (SHIPPED_AUTOENCODER_DIGEST if Path(folder) == SHIPPED_AUTOENCODER else None)
    found = folder_digest(Path(folder), OUTSIDE_MODEL_DIGEST)
    if expected is not None and found != expected:
        raise FoundryError(
            f"{folder}: autoencoder has digest {found[:16]}…, expected {expected[:16]}…; "
            "fetch it again, or name the autoencoder that the latents were made with"
        )
    if not (Path(folder) / "config.json").is_file():
        raise FoundryError(f"{folder}: holds no config.json; give the folder of a diffusers AutoencoderKL")
    return (
        AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False)
        .eval()
        .to(device, memory_format=torch.channels_last)
    )


@torch.inference_mode()
def encode_images(
    autoencoder: Any, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = 64
) -> Float32[np.ndarray, "n channels latent_h latent_w"]:
    """Scaled latents of pictures: posterior means, see :func:`training.diffusion.latent_space.scaled`."""
    parts = [
        autoencoder.encode(_to_tensor(images[start : start + batch_size], autoencoder)).latent_dist.mean
        for start in range(0, len(images), batch_size)
    ]
    return scaled(autoencoder.config, torch.cat(parts)).contiguous().cpu().numpy()


def decode_latents(
    autoencoder: Any, latents: Float[np.ndarray, "n channels latent_h latent_w"], batch_size: int = 64
) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures of scaled latents."""
    device = next(autoencoder.parameters()).device
    tensors = torch.from_numpy(np.asarray(latents, np.float32)).to(device)
    return np.concatenate([decode(autoencoder, part) for part in tensors.split(batch_size)])


def reconstruction_errors(
    images: UInt8[np.ndarray, "n h w 3"], restored: UInt8[np.ndarray, "n h w 3"]
) -> Float32[np.ndarray, " n"]:
    """Mean squared error of each picture, pixels in [-1, 1]; PSNR in dB is 10 log10(4 / error)."""
    difference = (images.astype(np.float32) - restored.astype(np.float32)) / 127.5
    return np.square(difference).mean((1, 2, 3))


def _to_tensor(images: np.ndarray, autoencoder: Any) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 127.5 - 1.0)
    return pixels.to(next(autoencoder.parameters()).device, memory_format=torch.channels_last)


def build_autoencoder(options: AutoencoderOptions, sample_size: int, seed: int) -> AutoencoderKL:
    """An AutoencoderKL that halves the side once per block after the first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = AutoencoderKL(
            block_out_channels=options.block_channels,
            down_block_types=("DownEncoderBlock2D",) * len(options.block_channels),
            up_block_types=("UpDecoderBlock2D",) * len(options.block_channels),
            layers_per_block=options.layers_per_block,
            latent_channels=options.latent_channels,
            norm_num_groups=1,  # small groups lose the colour of plain backgrounds
            mid_block_add_attention=False,
            sample_size=sample_size,
            scaling_factor=1.0,
        )
    with torch.no_grad():  # start with little posterior noise, or nothing is learned for a long time
        autoencoder.quant_conv.bias[options.latent_channels :] = INITIAL_LOG_VARIANCE
    return autoencoder


@torch.inference_mode()
def probe_autoencoder(autoencoder: AutoencoderKL) -> dict[str, Tensor]:
    """Latent and picture of a fixed input; equal before saving and after loading."""
    size = autoencoder.config.sample_size
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = autoencoder.encode(images).latent_dist.mean
    return {"latents": latents, "images": autoencoder.decode(latents).sample}


def write_autoencoder_probe(folder: Path) -> None:
    """Keep what a saved autoencoder says to a fixed input beside it."""
    reloaded = AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False).eval()
    save_file(probe_autoencoder(reloaded), folder / PROBE)


def reconstructed(folder: Path, images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures through an autoencoder and back."""
    autoencoder = load_autoencoder(folder)
    return decode_latents(autoencoder, encode_images(autoencoder, images))
