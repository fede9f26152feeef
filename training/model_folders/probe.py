"""The proof that a model folder reloads: what the model says to a fixed input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.backbones import (
    control_channels,
    denoise,
    latent_channels,
    own_size,
    placed_example,
    pooled_dim,
    text_dim,
)
from training.conditioning import Condition
from training.errors import FoundryError
from training.hardware import device_of
from training.model_folders.denoiser import Denoiser
from training.run_folder import PROBE

PROBE_TOKENS = 8

PROBE_SIDE = 8


@torch.inference_mode()
def probe(backbone: Any) -> Tensor:
    """The backbone's output on a fixed input; equal before saving and after loading."""
    device, generator = device_of(backbone), torch.Generator().manual_seed(0)
    height, width = own_size(backbone) or (PROBE_SIDE, PROBE_SIDE)  # where none is named, any will do
    noisy = torch.randn(2, latent_channels(backbone), height, width, generator=generator)
    states = torch.randn(2, PROBE_TOKENS, text_dim(backbone.config), generator=generator)
    mask = torch.arange(PROBE_TOKENS) < torch.tensor([[PROBE_TOKENS], [3]])
    timestep = torch.tensor([100.0, 900.0])
    pooled_width = pooled_dim(backbone.config)
    pooled = torch.randn(2, pooled_width, generator=generator) if pooled_width else None
    channels = control_channels(backbone)
    control = torch.randn(2, channels, height, width, generator=generator) if channels else None
    layout = placed_example(backbone, 2, generator)
    condition = Condition(states, mask, pooled, control=control, layout=layout).to(device)
    return denoise(backbone, noisy.to(device), timestep.to(device), condition).float().cpu().contiguous()


def reload_equals_saved(folder: Path, tolerance: float = 1e-4) -> float:
    """Load a model folder with stock classes and return the largest difference to its answer at saving, as a share of the
    answer's largest number, or of 1 where that is smaller.

    Works for diffusion pipelines, autoencoders and contrastive models. Raises FoundryError when the answer
    differs by more than ``tolerance`` (other processors round otherwise, by as much more as numbers are larger).
    """
    path = Path(folder) / PROBE
    if not path.is_file():
        raise FoundryError(f"{path}: missing; train the model again, its run wrote it")
    saved, found = load_file(path), _probe_folder(Path(folder))
    difference = max(_difference(found[name], saved[name]) for name in saved)
    if not difference <= tolerance:
        raise FoundryError(
            f"{folder}: reloaded, the model answers differently by {difference:.3g} (allowed {tolerance:g}); "
            "its weights were changed, train or fetch it again"
        )
    return difference


def _difference(found: Tensor, saved: Tensor) -> float:
    return float((found - saved).abs().max()) / max(1.0, float(saved.abs().max()))


def _probe_folder(folder: Path) -> dict[str, Tensor]:
    """The answer to the fixed input of whatever model lies in the folder."""
    if (folder / "model_index.json").is_file():
        return {"output": probe(Denoiser.load(folder).backbone)}
    if (folder / "open_clip_config.json").is_file():
        from training.model_folders.contrastive import ContrastiveModel, probe_contrastive

        return probe_contrastive(ContrastiveModel.load(folder))
    from training.model_folders.autoencoders import load_autoencoder, probe_autoencoder

    return probe_autoencoder(load_autoencoder(folder))
