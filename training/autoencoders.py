"""Autoencoders by folder and digest: pictures to scaled latents and back, and what is lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.errors import FoundryError
from training.latent_space import scaled
from training.packaged import SHIPPED_AUTOENCODER, SHIPPED_AUTOENCODER_DIGEST
from training.sampling import decode


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
    """Scaled latents of pictures: posterior means, see :func:`training.latent_space.scaled`."""
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
